"""The native backend: the C core through Cython.  The same names as :mod:`overlay.reference`."""

from __future__ import annotations

from . import _native
from .compiled import CompiledCodec

codec = CompiledCodec("native", _native)

FragmentReassembler = codec.FragmentReassembler
SttReassembler = codec.SttReassembler
checksum = codec.checksum
coalesce_batch = codec.coalesce_batch
decap = codec.decap
decap_batch = codec.decap_batch
decap_many = codec.decap_many
describe = codec.describe
encap = codec.encap
encap_batch = codec.encap_batch
encap_into = codec.encap_into
encap_many = codec.encap_many
flow_hash = codec.flow_hash
inspect_batch = codec.inspect_batch
packets = codec.packets
segment_batch = codec.segment_batch
segments = codec.segments

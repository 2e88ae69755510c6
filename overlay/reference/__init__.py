"""The pure-Python twin: the whole codec, written beside the RFCs and never optimised.

One file a subject, each with the same chapters: constants, header, build,
parse, describe.  It shares nothing with the C core, so that the two prove
each other.
"""

from __future__ import annotations

from .codec import ReferenceCodec
from .fragment import FragmentReassembler
from .stt_segment import SttReassembler

codec = ReferenceCodec()
SttReassembler.codec = codec

encap = codec.encap
encap_many = codec.encap_many
packets = codec.packets
decap = codec.decap
decap_many = codec.decap_many
describe = codec.describe
encap_batch = codec.encap_batch
encap_into = codec.encap_into
decap_batch = codec.decap_batch
inspect_batch = codec.inspect_batch
segment_batch = codec.segment_batch
coalesce_batch = codec.coalesce_batch
segments = codec.segments
flow_hash = codec.flow_hash
checksum = codec.checksum

__all__ = [
    "FragmentReassembler",
    "ReferenceCodec",
    "SttReassembler",
    "checksum",
    "coalesce_batch",
    "codec",
    "decap",
    "decap_batch",
    "decap_many",
    "describe",
    "encap",
    "encap_batch",
    "encap_into",
    "encap_many",
    "flow_hash",
    "inspect_batch",
    "packets",
    "segment_batch",
    "segments",
]

"""The C core through cffi, for PyPy and as a second way in: the names of ``_native.pyx``.

Convert, one C call (cffi lets go of the GIL for it), translate the status.
No packet loop and no protocol lives here.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from typing import Any

from . import _cffi_lib
from .batch import Batch
from .codec import Buffer, Codec, Decapsulated, ReassemblyStats, byte_view, raise_for_encap
from .errors import ConfigError, DecapError
from .fragment import FragmentStats
from .record import Policy as PolicyRecord
from .tunnel import PROTOCOLS, integer

ffi: Any = _cffi_lib.ffi
lib: Any = _cffi_lib.lib

_names = {cls.number: cls.name for cls in PROTOCOLS.values()}


class Counter:
    """Numbers for frame IDs, IP IDs and sequence numbers; none is given twice soon."""

    def __init__(self, first: int = 0) -> None:
        self._lock = threading.Lock()
        self._next = first

    def take(self, packets: int) -> int:
        """The first of that many numbers."""
        with self._lock:
            first = self._next
            self._next = (first + packets) & (2**64 - 1)
        return first

    def give_back(self, first: int, taken: int, used: int) -> None:
        """Of what was taken last, what is above ``used``; nothing if others took since."""
        with self._lock:
            if self._next == (first + taken) & (2**64 - 1):
                self._next = (first + used) & (2**64 - 1)


_counter = Counter(random.getrandbits(32))
take = _counter.take


def _view(source: Any, what: str) -> tuple[Any, int]:
    """A pointer to the bytes of any contiguous buffer, which it keeps alive, and their number."""
    view = byte_view(source, what)
    return ffi.from_buffer("uint8_t[]", view), view.nbytes


def _batch(batch: Batch, what: str = "batch") -> Any:
    """A batch's struct; it lives as long as the batch, which the caller holds."""
    if not isinstance(batch, Batch):
        raise TypeError(f"{what} must be a Batch, not {type(batch).__name__}")
    return ffi.cast("struct ov_batch *", batch._address)


def _distinct(a: Any, b: Any) -> None:
    first, second = int(ffi.cast("uintptr_t", a.data)), int(ffi.cast("uintptr_t", b.data))
    if first < second + b.size and second < first + a.size:
        raise ConfigError("out", "a batch", "a batch with memory of its own")


class Encoder:
    """A tunnel ready for packets."""

    def __init__(self, record: Any) -> None:
        self.tunnel = ffi.new("struct ov_tunnel *")
        if lib.ov_tunnel_init(self.tunnel, ffi.from_buffer("struct ov_config *", record)) != 0:
            raise ValueError("the tunnel's record is out of range")
        # Sequence numbers count from 0, each tunnel's own.
        self._counter = _counter if self.tunnel.config.sequence < 0 else Counter()

    @property
    def address(self) -> int:
        return int(ffi.cast("uintptr_t", self.tunnel))

    def encap(self, frame: Buffer) -> bytes:
        return self.encap_at(frame, self._counter.take(1))

    def encap_at(self, frame: Buffer, sequence: int) -> bytes:
        data, size = _view(frame, "frame")
        out = bytearray(size + self.tunnel.header_length)
        length = lib.ov_encap(self.tunnel, data, size, sequence, ffi.from_buffer("uint8_t[]", out))
        if length < 0:
            raise_for_encap(-length)
        return bytes(memoryview(out)[:length])

    def encap_batch(self, batch: Batch) -> int:
        return self.encap_batch_at(batch, self._counter.take(_batch(batch).count))

    def encap_batch_at(self, batch: Batch, sequence: int) -> int:
        return int(lib.ov_encap_batch(self.tunnel, _batch(batch), sequence))

    def encap_into(self, batch: Batch, out: Batch, mtu: int = 0) -> int:
        to = _batch(out, "out")
        most = to.capacity - to.count
        first = self._counter.take(most)
        done = self.encap_into_at(batch, out, mtu, first)
        self._counter.give_back(first, most, done)
        return done

    def encap_into_at(self, batch: Batch, out: Batch, mtu: int, sequence: int) -> int:
        rows, to = _batch(batch), _batch(out, "out")
        _distinct(rows, to)
        limit = integer("mtu", mtu, 0, 65535)
        return int(lib.ov_encap_into(self.tunnel, rows, to, limit, sequence))

    def encap_many(self, frames: Iterable[Buffer]) -> list[bytes]:
        given = list(frames)
        first = self._counter.take(len(given))
        return [self.encap_at(frame, first + i) for i, frame in enumerate(given)]


class Policy:
    """A profile as C reads it."""

    def __init__(self, owner: PolicyRecord) -> None:
        self.owner = owner
        self.policy = ffi.from_buffer("struct ov_policy *", owner.record)


# ---- one packet ----------------------------------------------------------------


def _decapsulated(codec: Codec, d: Any, packet: Any, header: bytes, link: int) -> Decapsulated:
    out = bytearray(lib.ov_decap_length(d))
    lib.ov_decap_write(d, packet, ffi.from_buffer("uint8_t[]", out))
    wire = d.wire + d.insert - d.remove
    name = _names[d.protocol]
    return Decapsulated(bytes(out), d.key, name, header, link, int(d.mss), wire, codec)


def decap(codec: Codec, policy: Policy, packet: Buffer, link: int, wire: int) -> Decapsulated:
    data, size = _view(packet, "packet")
    d = ffi.new("struct ov_frame *")
    lib.ov_decap(policy.policy, data, size, size if wire < 0 else wire, link, d)
    if d.status:
        raise DecapError(d.status)
    return _decapsulated(codec, d, data, bytes(ffi.buffer(data, d.header)), link)


def decap_many(
    codec: Codec, policy: Policy, packets: Iterable[Buffer]
) -> list[Decapsulated | DecapError]:
    results: list[Decapsulated | DecapError] = []
    for packet in packets:
        try:
            results.append(decap(codec, policy, packet, 0, -1))
        except DecapError as error:
            results.append(error)
    return results


def describe(header: bytes, protocol: int, link: int) -> bytes | None:
    data, size = _view(header, "header")
    config = ffi.new("struct ov_config *")
    if lib.ov_describe(data, size, link, protocol, config) != 0:
        return None
    return bytes(ffi.buffer(config))


def segments(frame: Buffer, mss: int) -> list[bytes]:
    data, size = _view(frame, "frame")
    room = ffi.new("uint8_t[]", size + 1)
    return [
        bytes(ffi.buffer(room, lib.ov_tcp_segment(data, size, mss, i, room)))
        for i in range(lib.ov_tcp_segments(data, size, mss))
    ]


# ---- batches ---------------------------------------------------------------------


def encap_rows(batch: Batch, addresses: Any, index: Any, sequence: int) -> int:
    """Row i by the tunnel at addresses[index[i]]; index is uint32."""
    tunnels = ffi.cast("struct ov_tunnel **", ffi.from_buffer(addresses))
    rows = ffi.cast("uint32_t *", ffi.from_buffer(index))
    return int(lib.ov_encap_many(tunnels, addresses.size, rows, _batch(batch), sequence))


def decap_batch(batch: Batch, policy: Policy) -> int:
    return int(lib.ov_decap_batch(policy.policy, _batch(batch)))


def inspect_batch(batch: Batch, policy: Policy, columns: Any) -> int:
    """columns is a struct ov_columns, as uint64."""
    to = ffi.from_buffer("struct ov_columns *", columns)
    return int(lib.ov_inspect_batch(policy.policy, _batch(batch), to))


def segment_batch(batch: Batch, out: Batch, mtu: int) -> int:
    rows, to = _batch(batch), _batch(out, "out")
    _distinct(rows, to)
    return int(lib.ov_segment_batch(rows, to, mtu))


def coalesce_batch(batch: Batch, out: Batch) -> int:
    rows, to = _batch(batch), _batch(out, "out")
    _distinct(rows, to)
    return int(lib.ov_coalesce_batch(rows, to))


def rewrite_batch(words: Any, policy: Policy, batch: Batch) -> int:
    rewriter = ffi.cast("struct ov_rewriter *", ffi.from_buffer(words))
    return int(lib.ov_rewrite_batch(rewriter, policy.policy, _batch(batch)))


def pcap_scan(batch: Batch, at: int, swapped: bool, stamps: Any) -> int:
    to = ffi.cast("uint64_t *", ffi.from_buffer(stamps))
    return int(lib.ov_pcap_scan(_batch(batch), at, swapped, to))


def pcap_pack(batch: Batch, out: Batch) -> int:
    rows, to = _batch(batch), _batch(out, "out")
    _distinct(rows, to)
    return int(lib.ov_pcap_pack(rows, to))


def pcap_stamp(batch: Batch, stamps: Any) -> None:
    given = ffi.cast("uint64_t *", ffi.from_buffer(stamps))
    lib.ov_pcap_stamp(_batch(batch), given, stamps.size)


# ---- STT reassembly ---------------------------------------------------------------


class Reassembler:
    """The C reassembler and its block of memory.  Not for two threads at once."""

    def __init__(self, memory: int, timeout: int, seed: int) -> None:
        size = lib.ov_reassembler_size(memory)
        if size == 0:
            raise ValueError("memory is out of range")
        self._block = ffi.new("uint8_t[]", size + 64)
        start = int(ffi.cast("uintptr_t", self._block))
        at = self._block + (-start % 64)
        self._r = lib.ov_reassembler_init(at, memory, timeout, seed)

    def push(self, codec: Codec, policy: Policy, packet: Buffer, now: int) -> Decapsulated | None:
        data, size = _view(packet, "packet")
        d = ffi.new("struct ov_frame *")
        status = lib.ov_reassembler_push(self._r, policy.policy, data, size, size, 0, now, d)
        if status in (lib.OV_STT_INCOMPLETE, lib.OV_STT_DUPLICATE, lib.OV_STT_OVERLAP):
            return None
        if status:
            raise DecapError(status)
        length = ffi.new("size_t *")
        header = lib.ov_reassembler_header(self._r, length)
        outer = bytes(ffi.buffer(header, length[0]))
        return _decapsulated(codec, d, lib.ov_reassembler_frame(self._r), outer, 0)

    def push_batch(self, policy: Policy, batch: Batch, out: Batch, now: int) -> int:
        rows, to = _batch(batch), _batch(out, "out")
        _distinct(rows, to)
        return int(lib.ov_reassembler_batch(self._r, policy.policy, rows, to, now))

    def expire(self, now: int) -> int:
        return int(lib.ov_reassembler_expire(self._r, now))

    def stats(self) -> ReassemblyStats:
        s = ffi.new("struct ov_reassembly_stats *")
        lib.ov_reassembler_stats(self._r, s)
        return ReassemblyStats(**{name: getattr(s, name) for name, _ in ffi.typeof(s[0]).fields})


# ---- outer fragments ---------------------------------------------------------------


class Fragments:
    """The C reassembly of fragments and its block of memory.  Not for two threads at once."""

    def __init__(self, memory: int, timeout: int, seed: int) -> None:
        size = lib.ov_fragments_size(memory)
        if size == 0:
            raise ValueError("memory is out of range")
        self._block = ffi.new("uint8_t[]", size + 64)
        start = int(ffi.cast("uintptr_t", self._block))
        self._f = lib.ov_fragments_init(self._block + (-start % 64), memory, timeout, seed)

    def push_batch(self, batch: Batch, out: Batch, now: Any) -> int:
        """now is uint64, one a row."""
        rows, to = _batch(batch), _batch(out, "out")
        _distinct(rows, to)
        times = ffi.cast("uint64_t *", ffi.from_buffer(now))
        return int(lib.ov_fragments_batch(self._f, rows, to, times))

    def expire(self, now: int) -> int:
        return int(lib.ov_fragments_expire(self._f, now))

    def stats(self) -> FragmentStats:
        s = ffi.new("struct ov_fragment_stats *")
        lib.ov_fragments_stats(self._f, s)
        return FragmentStats(**{name: getattr(s, name) for name, _ in ffi.typeof(s[0]).fields})


# ---- numbers -----------------------------------------------------------------------


def flow_hash(frame: Buffer, seed: int) -> int:
    return int(lib.ov_flow_hash(*_view(frame, "frame"), seed))


def checksum(data: Buffer) -> int:
    return int(lib.ov_checksum(*_view(data, "data")))


def checksum_by(name: str, data: Buffer) -> int | None:
    result = int(lib.ov_checksum_by(name.encode(), *_view(data, "data")))
    return None if result > 0xFFFF else result


def checksum_name() -> str:
    return str(ffi.string(lib.ov_checksum_name()).decode())


def statuses() -> list[tuple[str, str]]:
    """(name, text) of every status, in order."""
    return [
        (ffi.string(lib.ov_status_name(i)).decode(), ffi.string(lib.ov_status_text(i)).decode())
        for i in range(lib.OV_STATUS_COUNT)
    ]


def sizes() -> dict[str, int]:
    """Bytes of the structs that numpy records mirror."""
    return {
        name: ffi.sizeof(f"struct {name}")
        for name in ("ov_config", "ov_policy", "ov_batch", "ov_columns")
    }

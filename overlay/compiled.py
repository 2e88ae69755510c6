"""CompiledCodec: the Codec over the C core, whichever way in.

``_native`` (Cython) and ``_cffi_core`` offer the same few functions; all that
is not a call into C is here, once.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .batch import Batch
from .codec import (
    Buffer,
    Codec,
    Decapsulated,
    Reassembler,
    ReassemblyStats,
    byte_view,
    columns_for,
    nanoseconds,
    tunnel_rows,
)
from .columns import Columns
from .compiled_editor import CompiledEditor
from .errors import ConfigError, DecapError
from .fragment import FragmentReassembler, FragmentStats
from .profile import Profile
from .record import Policy, tunnel_of, tunnel_record
from .rule import Rule
from .tunnel import PROTOCOLS, Tunnel, integer

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["CompiledCodec"]


class CompiledCodec(Codec):
    """The backends in C.  See :class:`overlay.codec.Codec`.

    :param name: ``"native"`` or ``"cffi"``.
    :param core: the module with the calls into C.
    """

    def __init__(self, name: str, core: Any) -> None:
        super().__init__()
        self.name = name
        self.core = core
        self._slot = f"_{name}"
        self._policies: dict[str, Any] = {}
        self._last: tuple[tuple[Tunnel, ...], npt.NDArray[np.uint64]] = (), np.zeros(0, np.uint64)
        self._decap_batch = core.decap_batch
        self.pcap_scan = core.pcap_scan
        self.pcap_pack = core.pcap_pack
        self.pcap_stamp = core.pcap_stamp

        names = {"codec": self, "__doc__": Reassembler.__doc__, "__module__": f"overlay.{name}"}
        more = {**names, "__doc__": FragmentReassembler.__doc__}
        self.FragmentReassembler = type("FragmentReassembler", (CompiledFragments,), more)
        self.SttReassembler = type("SttReassembler", (CompiledReassembler,), names)

    def take(self, packets: int = 1) -> int:
        first: int = self.core.take(packets)
        return first

    def encoder(self, tunnel: Tunnel) -> Any:
        encoder = tunnel.__dict__.get(self._slot)
        if encoder is None:
            # Kept with the tunnel: it lives as long, and two made at once are equal.
            encoder = tunnel.__dict__[self._slot] = self.core.Encoder(tunnel_record(tunnel))
        return encoder

    def policy(self, profile: str | Profile, options: dict[str, Any]) -> Any:
        """The C form of a profile, made once and kept with it."""
        if not options and type(profile) is str:
            policy = self._policies.get(profile)
            if policy is not None:
                return policy
        resolved = Profile.of(profile, **options)
        policy = resolved.__dict__.get(self._slot)
        if policy is None:
            policy = resolved.__dict__[self._slot] = self.core.Policy(Policy(resolved))
        if not options and isinstance(profile, str):
            self._policies[profile] = policy  # a valid name: there are three
        return policy

    # -- one frame ------------------------------------------------------------

    def encap(self, tunnel: Tunnel, frame: Buffer, *, sequence: int | None = None) -> bytes:
        encoder = self.encoder(tunnel)
        packet: bytes = (
            encoder.encap(frame) if sequence is None else encoder.encap_at(frame, sequence)
        )
        return packet

    def decap(
        self,
        packet: Buffer,
        profile: str | Profile = "rfc",
        *,
        link: int = 0,
        wire_length: int | None = None,
        **options: Any,
    ) -> Decapsulated:
        policy = self.policy(profile, options)
        wire = -1
        if wire_length is not None:
            wire = integer(
                "wire_length", wire_length, byte_view(packet, "packet").nbytes, 2**32 - 1
            )
        if link != 0:
            link = integer("link", link, 0, 255)
        result: Decapsulated = self.core.decap(self, policy, packet, link, wire)
        return result

    def decap_many(
        self, packets: Iterable[Buffer], profile: str | Profile = "rfc", **options: Any
    ) -> list[Decapsulated | DecapError]:
        results: list[Decapsulated | DecapError] = self.core.decap_many(
            self, self.policy(profile, options), packets
        )
        return results

    def describe(self, header: bytes, protocol: str, *, link: int = 0) -> Tunnel:
        if protocol not in PROTOCOLS:
            raise ConfigError("protocol", protocol, "one of " + ", ".join(PROTOCOLS))
        record = self.core.describe(header, PROTOCOLS[protocol].number, link)
        if record is None:
            raise ConfigError("header", f"<{len(header)} bytes>", f"outer headers of {protocol}")
        return tunnel_of(record)

    # -- batches --------------------------------------------------------------

    def encap_batch(
        self,
        batch: Batch,
        tunnels: Tunnel | Sequence[Tunnel],
        index: npt.ArrayLike | None = None,
        *,
        sequence: int | None = None,
    ) -> int:
        several, rows = tunnel_rows(batch, tunnels, index)
        done: int
        if rows is None and sequence is None:
            done = self.encoder(several[0]).encap_batch(batch)
        elif rows is None:
            done = self.encoder(several[0]).encap_batch_at(batch, sequence)
        elif not several:
            done = 0
        else:
            first = self.take(batch.count) if sequence is None else sequence
            done = self.core.encap_rows(batch, self._addresses(several), rows, first)
        return done

    def _addresses(self, tunnels: tuple[Tunnel, ...]) -> npt.NDArray[np.uint64]:
        """Where the encoders of these tunnels lie; those of the same tuple again are known."""
        last, addresses = self._last
        if last is not tunnels:
            addresses = np.array([self.encoder(t).address for t in tunnels], np.uint64)
            self._last = tunnels, addresses
        return addresses

    def encap_into(
        self, batch: Batch, out: Batch, tunnel: Tunnel, mtu: int = 0, *, sequence: int | None = None
    ) -> int:
        encoder = self.encoder(tunnel)
        done: int = (
            encoder.encap_into(batch, out, mtu)
            if sequence is None
            else encoder.encap_into_at(batch, out, mtu, sequence)
        )
        return done

    def decap_batch(self, batch: Batch, profile: str | Profile = "rfc", **options: Any) -> int:
        done: int = self._decap_batch(batch, self.policy(profile, options))
        return done

    def inspect_batch(
        self,
        batch: Batch,
        profile: str | Profile = "rfc",
        *,
        flow_hash: bool = False,
        seed: int = 0,
        origin: int = 0,
        into: Columns | None = None,
        **options: Any,
    ) -> Columns:
        policy = self.policy(profile, options)
        columns = columns_for(batch, flow_hash, seed, origin, into)
        self.core.inspect_batch(batch, policy, columns._struct)
        return columns

    def editor(
        self, rules: Sequence[Rule], profile: str | Profile = "lenient", *, fix: bool = True
    ) -> CompiledEditor:
        return CompiledEditor(self.core, rules, self.policy(profile, {}), fix=fix)

    def segment_batch(self, batch: Batch, out: Batch, mtu: int = 0) -> int:
        rows: int = self.core.segment_batch(batch, out, integer("mtu", mtu, 0, 65535))
        return rows

    def coalesce_batch(self, batch: Batch, out: Batch) -> int:
        rows: int = self.core.coalesce_batch(batch, out)
        return rows

    # -- the rest -------------------------------------------------------------

    def segments(self, frame: Buffer, mss: int) -> list[bytes]:
        packets: list[bytes] = self.core.segments(frame, integer("mss", mss, 0, 65535))
        return packets

    def flow_hash(self, frame: Buffer, seed: int = 0) -> int:
        size = byte_view(frame, "frame").nbytes
        if size < 14:
            raise ConfigError("frame", f"<{size} bytes>", "at least 14 bytes")
        value: int = self.core.flow_hash(frame, integer("seed", seed, 0, 2**64 - 1))
        return value

    def checksum(self, data: Buffer) -> int:
        value: int = self.core.checksum(data)
        return value

    def checksum_by(self, routine: str, data: Buffer) -> int | None:
        """The same by one routine: ``"avx512"``, ``"avx2"``, ``"neon"``,
        ``"portable"`` or ``"naive"``; None where this machine has it not.
        """
        value: int | None = self.core.checksum_by(routine, data)
        return value

    @property
    def checksum_routine(self) -> str:
        """The routine in use."""
        name: str = self.core.checksum_name()
        return name


class CompiledReassembler(Reassembler):
    """STT reassembly in C; calls from several threads take turns."""

    codec: CompiledCodec

    def __init__(
        self,
        timeout: float = 30.0,
        memory: int = 4 << 20,
        *,
        profile: str | Profile = "rfc",
        **options: Any,
    ) -> None:
        super().__init__(timeout, memory, profile=profile, **options)
        self._policy = self.codec.policy(self.profile, {})
        self._lock = threading.Lock()
        self._core = self.codec.core.Reassembler(
            self.memory, nanoseconds(self.timeout), secrets.randbits(64)
        )

    def push(self, packet: Buffer, now: float) -> Decapsulated | None:
        with self._lock:
            result: Decapsulated | None = self._core.push(
                self.codec, self._policy, packet, nanoseconds(now)
            )
        return result

    def push_batch(self, batch: Batch, out: Batch, now: float) -> int:
        with self._lock:
            frames: int = self._core.push_batch(self._policy, batch, out, nanoseconds(now))
        return frames

    def expire(self, now: float) -> int:
        with self._lock:
            expired: int = self._core.expire(nanoseconds(now))
        return expired

    @property
    def stats(self) -> ReassemblyStats:
        with self._lock:
            stats: ReassemblyStats = self._core.stats()
        return stats


class CompiledFragments(FragmentReassembler):
    """Reassembly of outer fragments in C; calls from several threads take turns."""

    codec: CompiledCodec

    def __init__(self, timeout: float = 30.0, memory: int = 4 << 20) -> None:
        super().__init__(timeout, memory)
        self._lock = threading.Lock()
        self._core = self.codec.core.Fragments(
            self.memory, nanoseconds(self.timeout), secrets.randbits(64)
        )

    def _push(self, batch: Batch, out: Batch, now: npt.NDArray[np.uint64]) -> int:
        with self._lock:
            packets: int = self._core.push_batch(batch, out, now)
        return packets

    def _expire(self, now: int) -> int:
        with self._lock:
            lost: int = self._core.expire(now)
        return lost

    @property
    def stats(self) -> FragmentStats:
        with self._lock:
            stats: FragmentStats = self._core.stats()
        return stats

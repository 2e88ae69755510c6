"""``overlay decap``: a capture of packets to one of frames."""

from __future__ import annotations

from collections.abc import Iterator

import click
import numpy as np
import numpy.typing as npt

import overlay
from overlay import PROTOCOLS, Batch, CaptureError, Profile, Status
from overlay.io.pcap import Burst
from overlay.layout import STT_PORT, fields

from . import DONE, FAILED, REFUSED, fail
from .option import JSON, PORT, PROFILE, STRICT, Number, profile_of
from .stream import Output, Sink, Tally, open_input, watched

_NAMES = {kind.number: name for name, kind in PROTOCOLS.items()}
_MOVED = ("offset", "length", "wire", "key", "protocol", "mss", "link")

# A frame that decap refuses for one of these is in no tunnel of ours.
_IN_NO_TUNNEL = (
    Status.ETHERNET_TRUNCATED, Status.NOT_IP, Status.UNKNOWN_PROTOCOL, Status.GRE_PROTOCOL,
)  # fmt: skip

_HINT = "checksums of offloading senders are not final in captures: --profile lenient takes them"
_HINTED = (Status.UDP_CHECKSUM, Status.TCP_CHECKSUM, Status.IP_CHECKSUM, Status.IP_LENGTH)

#: Packets this close in time, in ns, go to the reassembler together.
_TICK = 100_000_000


def _is_tunnel(frame: memoryview, vxlan_port: int) -> bool:
    """Whether a frame's headers say that it is in a tunnel, be they right or wrong."""
    said = {f.name: bytes(frame[f.offset : f.offset + f.size]) for f in fields(
        frame, vxlan_port=vxlan_port
    )}  # fmt: skip
    return (
        said.get("outer.udp.destination_port") == vxlan_port.to_bytes(2, "big")
        or said.get("outer.tcp.destination_port") == STT_PORT.to_bytes(2, "big")
        or said.get("nvgre.protocol") == b"\x65\x58"
    )


class Decapsulator:
    """Takes bursts of packets and writes frames, in the order in which they are whole.

    ``plain``: whether what is in no tunnel is a frame itself, and not refused.
    """

    def __init__(
        self, profile: Profile, depth: int, resegment: bool, writer: Sink, tally: Tally,
        *, plain: bool = False,
    ) -> None:  # fmt: skip
        self._plain = plain
        self._profile = profile
        self._depth = depth
        self._resegment = resegment
        self._writer = writer
        self._tally = tally
        self._reassembler = overlay.SttReassembler(profile=profile)
        self._inner = Profile.of(
            profile.base, vxlan_port=profile.vxlan_port, inner_vlan=profile.inner_vlan
        )
        self._now = 0
        self._pushed_refused = 0

    def take(self, burst: Burst) -> None:
        batch, tally = burst.batch, self._tally
        tally.read += batch.count
        tally.bytes_read += int(batch.wire.sum(dtype=np.int64))
        overlay.decap_batch(batch, self._profile)
        if self._plain:
            frames = (batch.link == 0) & np.isin(batch.status, _IN_NO_TUNNEL)
            for column in (batch.status, batch.protocol, batch.key):
                column[frames] = 0
        whole = list(self._reassembled(batch, burst.timestamps))
        drops = batch.drops()
        drops.pop(Status.STT_INCOMPLETE, None)  # held
        tally.drops.update(drops)
        self._count(batch, batch.status == 0)
        self._deeper(batch)
        done = batch.status == 0
        if not whole and not (self._resegment and batch.mss[done].any()):
            tally.bytes_written += int(batch.wire[done].sum(dtype=np.int64))
            tally.wrote += self._writer.write_all(batch, self._writer.times(burst), burst.interface)
            return
        found = [(row, batch, row) for row in np.flatnonzero(done).tolist()]
        for made, rows in whole:
            self._count(made, made.status == 0)
            self._deeper(made)
            good = np.flatnonzero(made.status == 0).tolist()
            found += [(int(rows[place]), made, place) for place in good]
        found.sort(key=lambda entry: entry[0])
        self._write(found, burst)

    def _count(self, batch: Batch, opened: npt.NDArray[np.bool_]) -> None:
        """Count the tunnels that these rows came out of."""
        counts = np.bincount(batch.protocol[opened], minlength=1).tolist()
        counts[0] = 0  # frames that were in none
        self._tally.protocols.update({_NAMES.get(p, "other"): n for p, n in enumerate(counts) if n})

    def _deeper(self, batch: Batch) -> None:
        """Decap what is a tunnel's packet again; leave what is not, refuse what is a bad one."""
        for _ in range(self._depth - 1):
            before = {name: getattr(batch, name).copy() for name in _MOVED}
            candidates = batch.status == 0
            batch.link[candidates] = 0
            done = overlay.decap_batch(batch, self._inner)
            self._count(batch, candidates & (batch.status == 0))
            refused = candidates & (batch.status != 0)
            frames = refused & np.isin(batch.status, _IN_NO_TUNNEL)
            for name, column in before.items():
                getattr(batch, name)[refused] = column[refused]
            for row in np.flatnonzero(refused & ~frames).tolist():
                if not _is_tunnel(batch[row], self._inner.vxlan_port):
                    frames[row] = True
            statuses = np.bincount(batch.status[refused & ~frames], minlength=1).tolist()
            self._tally.drops.update({Status(s): n for s, n in enumerate(statuses) if n})
            batch.status[frames] = 0
            if not done:
                return

    def _reassembled(
        self, batch: Batch, times: npt.NDArray[np.int64]
    ) -> Iterator[tuple[Batch, npt.NDArray[np.intp]]]:
        """Push the STT segments; batches of whole frames, and the row that completed each."""
        held = np.flatnonzero(batch.status == Status.STT_INCOMPLETE)
        if not held.size:
            return
        clock = np.maximum.accumulate(np.clip(times[held], self._now, 2**33 * 10**9 - 10**9))
        self._now = int(clock[-1])
        ends = np.flatnonzero(np.diff(clock // _TICK)) + 1
        for rows, ticks in zip(np.split(held, ends), np.split(clock, ends), strict=True):
            part = Batch.from_array(
                batch.data, batch.offset[rows], batch.length[rows], wire=batch.wire[rows]
            )
            part.link[:] = batch.link[rows]
            room = self._reassembler.memory + int(part.length.sum(dtype=np.int64))
            out = Batch.packed(room + 64 * part.count, part.count)
            self._reassembler.push_batch(part, out, float(ticks[0]) / 1e9)
            kept = (part.status == 0) | (part.status == Status.STT_INCOMPLETE)
            batch.status[rows] = np.where(kept, Status.STT_INCOMPLETE, part.status)
            early = (part.status == Status.STT_DUPLICATE) | (part.status == Status.STT_OVERLAP)
            self._pushed_refused += int(np.count_nonzero(~kept & ~early))
            if out.count:
                yield out, rows[out.origin]

    def _write(self, found: list[tuple[int, Batch, int]], burst: Burst) -> None:
        """Write frames of several batches; ``found`` has the row of the burst first."""
        rows: list[int] = []
        frames: list[memoryview | bytes] = []
        cut: list[int] = []
        keys: list[int] = []
        protocols: list[int] = []
        for row, batch, place in found:
            frame = batch[place]
            missing = int(batch.wire[place]) - len(frame)
            mss = int(batch.mss[place]) if self._resegment and not missing else 0
            pieces = overlay.Tunnel.codec.segments(frame, mss) if mss else [frame]
            rows += [row] * len(pieces)
            frames += pieces
            cut += [missing] * len(pieces)
            keys += [int(batch.key[place])] * len(pieces)
            protocols += [int(batch.protocol[place])] * len(pieces)
        made = Batch.from_frames(frames, headroom=0)
        made.wire[:] += np.array(cut, np.uint32)
        made.key[:], made.protocol[:] = keys, protocols
        self._tally.bytes_written += int(made.wire.sum(dtype=np.int64))
        order = np.array(rows, np.intp)
        self._tally.wrote += self._writer.write(
            made, burst.timestamps[order], burst.interface[order]
        )

    def finish(self) -> None:
        """Count the STT frames that never became whole."""
        stats = self._reassembler.stats
        cut = max(0, stats.refused - self._pushed_refused)
        lost = stats.pending + stats.timed_out + stats.evicted + cut
        if lost:
            self._tally.drops[Status.STT_INCOMPLETE] += lost
        if stats.segments:
            self._tally.facts["stt_segments"] = stats.segments
            self._tally.facts["stt_frames_reassembled"] = stats.frames


@click.command("decap")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option(
    "--id", "keys", type=Number(), multiple=True,
    help="A VNI, VSID or Context ID to take, of the outermost tunnel; repeatable.",
)  # fmt: skip
@click.option(
    "--protocol", "protocols", type=click.Choice(list(PROTOCOLS)), multiple=True,
    help="A protocol to take; repeatable.",
)  # fmt: skip
@PROFILE
@PORT
@click.option(
    "--inner-vlan", type=click.Choice(["keep", "strip", "reject"]), default="keep",
    show_default=True, help="VLAN tags of the frames.",
)  # fmt: skip
@click.option(
    "--depth", type=click.IntRange(1, 16), default=1, show_default=True,
    help="Tunnels within tunnels to remove at most; STT segments within are not reassembled.",
)  # fmt: skip
@click.option("--resegment", is_flag=True, help="Cut STT frames by their MSS.")
@JSON
@STRICT
def command(
    source: str, target: str, keys: tuple[int, ...], protocols: tuple[str, ...], profile: str,
    port: int, inner_vlan: str, depth: int, resegment: bool, as_json: bool, strict: bool,
) -> int:  # fmt: skip
    """Take the frames out of the packets of IN; write them to OUT.

    Packets that are in no tunnel are refused too, and counted by reason.  STT
    segments are reassembled.  Timestamps, lengths on the wire and (pcapng)
    interfaces are kept.
    """
    chosen = profile_of(
        profile, vxlan_port=port, inner_vlan=inner_vlan,
        **({"keys": frozenset(keys)} if keys else {}),
        **({"protocols": protocols} if protocols else {}),
    )  # fmt: skip
    tally = Tally("packets", "frames")
    broken: CaptureError | None = None
    with open_input(source) as capture:
        output = Output(target, capture)
        with output.writer as writer:
            work = Decapsulator(chosen, depth, resegment, writer, tally)
            try:
                for burst in watched(capture):
                    output.describe()
                    work.take(burst)
            except CaptureError as error:
                broken = error
            output.describe()
            work.finish()
    tally.show(as_json, to_stderr=target == "-")
    if profile == "rfc" and not as_json and any(tally.drops[status] for status in _HINTED):
        click.echo(_HINT, err=target == "-")
    if broken is not None:
        fail(str(broken))
        return FAILED
    return REFUSED if strict and tally.refused else DONE

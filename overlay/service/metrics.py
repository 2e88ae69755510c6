"""Metrics: a VTEP's counters for Prometheus.

Lives here: the names of the metrics and the server that gives them; loaded
only where a configuration asks for it.  What must not: reading the counters
(report).

Labels are bounded: networks, ports and remotes by the configuration, reasons
by :class:`~overlay.errors.Status`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import overlay
from overlay import OverlayError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Metrics"]

_WAYS = (("in", "in_frames", "in_bytes"), ("out", "out_frames", "out_bytes"))


def _families(stats: dict[str, Any]) -> Iterator[Metric]:
    """The metrics of a report's ``stats``."""
    from prometheus_client.core import CounterMetricFamily as Counts
    from prometheus_client.core import GaugeMetricFamily as Gauge

    build = Gauge("overlay_build_info", "Version and backend.", labels=["version", "backend"])
    build.add_metric([overlay.__version__, overlay.backend], 1)
    yield build
    yield Gauge("overlay_networks", "Networks.", value=len(stats["networks"]))

    ends = ["network", "tunnel"]
    frames = Counts("overlay_frames", "Frames; in is towards the switch.",
                     labels=[*ends, "port", "direction"])  # fmt: skip
    size = Counts("overlay_bytes", "Bytes of frames, without tunnel headers.",
                   labels=[*ends, "port", "direction"])  # fmt: skip
    remote_frames = Counts("overlay_remote_frames", "Frames by tunnel.",
                            labels=[*ends, "remote", "protocol", "direction"])  # fmt: skip
    remote_size = Counts("overlay_remote_bytes", "Bytes of frames by tunnel, without its headers.",
                          labels=[*ends, "remote", "protocol", "direction"])  # fmt: skip
    drops = Counts("overlay_drops", "Frames that went nowhere, by reason.",
                    labels=[*ends, "reason"])  # fmt: skip
    copies = Counts("overlay_copies", "Frames that flooding made.", labels=ends)
    answers = Counts("overlay_answers", "Answers to ARP, ND and what is too big.", labels=ends)
    entries = Gauge("overlay_fdb_entries", "MAC addresses known.", labels=ends)
    for network in stats["networks"]:
        at = [str(network["id"]), network["tunnel"]]
        copies.add_metric(at, network["copies"])
        answers.add_metric(at, network["answers"])
        entries.add_metric(at, network["macs"])
        for reason, count in network["drops"].items():
            drops.add_metric([*at, reason], count)
        for direction, count, total in _WAYS:
            for port in network["port"]:
                frames.add_metric([*at, port["name"], direction], port[count])
                size.add_metric([*at, port["name"], direction], port[total])
            for place, remote in _remotes(network["remote"]).items():
                remote_frames.add_metric([*at, *place, direction], remote[count])
                remote_size.add_metric([*at, *place, direction], remote[total])
    for reason, count in stats["unknown"]["drops"].items():
        drops.add_metric(["", "", reason], count)
    yield from (frames, size, remote_frames, remote_size, drops, copies, answers, entries)

    for group in ("fdb", "neighbors", "reassembly", "fragments"):
        for name, value in stats[group].items():
            if (group, name) == ("fdb", "entries"):
                continue  # by network above
            yield _counter(f"overlay_{group}", name, value)
    packets = Counts("overlay_device_packets", "Packets of the underlay's devices.",
                      labels=["device", "direction"])  # fmt: skip
    octets = Counts("overlay_device_bytes", "Bytes of the underlay's devices.",
                     labels=["device", "direction"])  # fmt: skip
    lost = Counts("overlay_device_lost", "Packets that a device lost, by reason.",
                   labels=["device", "reason"])  # fmt: skip
    for device, found in stats["devices"].items():
        for direction, way in (("in", "rx"), ("out", "tx")):
            packets.add_metric([device, direction], found[f"{way}_packets"])
            octets.add_metric([device, direction], found[f"{way}_bytes"])
        for reason, count in found["lost"].items():
            lost.add_metric([device, reason], count)
    yield from (packets, octets, lost)
    yield Counts("overlay_events_lost", "Events that nobody took in time.",
                  value=stats["events_lost"])  # fmt: skip


def _remotes(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Counter[str]]:
    """Traffic by address and tunnel; of all that are not listed, and may be many, as one."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        address = row["address"] if row["listed"] else "unlisted"
        sums = found.setdefault((address, row["tunnel"]), Counter())
        sums.update({name: row[name] for _, *names in _WAYS for name in names})
    return found


#: Counters of the switch that are levels and may fall.
_LEVELS = {"entries", "capacity", "held", "memory", "pending", "packets", "used", "count"}


def _counter(group: str, name: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = GaugeMetricFamily if name in _LEVELS else CounterMetricFamily
    return kind(f"{group}_{name}", f"{name.replace('_', ' ').capitalize()}.", value=value)


class _Collector:
    def __init__(self, stats: Callable[[], dict[str, Any]]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        return _families(self._stats())


class _Quiet(WSGIRequestHandler):
    timeout = 10  # a client that says nothing holds the server no longer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _Server(WSGIServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no event."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class Metrics:
    """Serves ``stats`` at ``address`` (``host:port``) from :meth:`start` on.

    Raises OSError where the address cannot be had, and
    :class:`~overlay.errors.OverlayError` without prometheus-client.
    """

    def __init__(self, address: str, stats: Callable[[], dict[str, Any]]) -> None:
        try:
            from prometheus_client import CollectorRegistry, make_wsgi_app
        except ImportError:
            raise OverlayError(
                "metrics need prometheus-client: pip install 'overlay-dataplane[live]'"
            ) from None
        registry = CollectorRegistry()
        registry.register(_Collector(stats))
        host, _, port = address.rpartition(":")
        kind = _Server6 if host.startswith("[") else _Server
        try:
            self._server = make_server(
                host.strip("[]"), int(port), make_wsgi_app(registry),
                server_class=kind, handler_class=_Quiet,
            )  # fmt: skip
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"metrics {address}") from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )

    @property
    def port(self) -> int:
        """The port in use: that of the address, unless it was 0."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._server.shutdown()
        self._server.server_close()

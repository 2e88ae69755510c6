"""Daemon: the process that runs a VTEP from a configuration.

Lives here: the order in which things begin and end, signals, and the loop that
serves the control socket.  What must not: how a VTEP is changed (plant), how a
line looks (log).

Guarantees: SIGTERM and SIGINT drain and end with status 0; SIGHUP loads the
configuration again, and one that is wrong, or cannot be, changes nothing and
is logged.
"""

from __future__ import annotations

import collections
import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Any

from overlay import OverlayError

from . import command, privilege, report
from .config import Config, InvalidConfig
from .control import Control
from .log import log
from .metrics import Metrics
from .notice import Notice
from .plan import Step, difference, setup
from .plant import Plant
from .reader import load

if TYPE_CHECKING:
    from overlay.switch import Event

__all__ = ["Daemon", "kept_capabilities"]

_EVENTS = 1 << 14  # that wait to be told
_STATUS_INTERVAL = 30.0  # seconds between two status lines for the service manager


def tunnels_of(config: Config) -> list[str]:
    """The protocols in use, sorted."""
    networks = {network.tunnel for network in config.network} or {config.vtep.tunnel}
    remotes = {remote.tunnel for network in config.network for remote in network.remotes}
    return sorted(networks | remotes)


def kept_capabilities(config: Config) -> list[str] | None:
    """What a process of this configuration still needs once it runs; None: it keeps all."""
    if config.vtep.drop_privileges == "none":
        return None
    if config.vtep.drop_privileges == "all":
        return []
    kept = set()
    tunnels = set(tunnels_of(config))
    kinds = {port.device[0] for network in config.network for port in network.port}
    if tunnels & {"nvgre", "stt"} or "interface" in kinds or config.vtep.underlay:
        kept |= {"CAP_NET_RAW", "CAP_NET_ADMIN"}  # sockets, and promiscuous mode or nftables
    if "tap" in kinds:
        kept.add("CAP_NET_ADMIN")  # to open one again, or another
    return sorted(kept)


class Daemon:
    """A VTEP as the configuration in ``path`` says; :meth:`run` returns the exit status.

    Set-up is done when it is made: it raises OSError and OverlayError, and
    leaves nothing behind.
    """

    def __init__(self, path: str, config: Config) -> None:
        self._path = path
        self._config = config
        self._notice = Notice()
        self._selector = selectors.DefaultSelector()
        self._signals: collections.deque[int] = collections.deque()
        self._events: collections.deque[Event] = collections.deque(maxlen=_EVENTS)
        self._events_lost = 0
        self._ended = False
        self._control: Control | None = None
        self._metrics: Metrics | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wake)
        self._plant: Plant | None = None
        # From the beginning, so that a signal during set-up is heard when that is over.
        self._handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        self._waker = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            self._set_up()
        except BaseException:
            self._close()
            raise

    @property
    def plant(self) -> Plant:
        assert self._plant is not None
        return self._plant

    # -- set-up -------------------------------------------------------------------

    def _set_up(self) -> None:
        options = self._config.vtep
        account = privilege.find_account(options.user) if options.user else None
        self._plant = Plant(options, tunnels_of(self._config), self._on_event)
        self._commands = command.Commands(
            self.plant, self._reload, lambda: command.plain(self._config)
        )
        self._owner = account.pw_uid if account else -1
        self._control = self._open_control(self._config)
        self._metrics = self._open_metrics(self._config)
        self.plant.perform(setup(self._config).steps, exact=True)
        # Threads have the capabilities of the one that started them, so none is started before.
        kept = kept_capabilities(self._config)
        if kept is not None or options.user:
            privilege.drop(list(privilege.CAPABILITIES) if kept is None else kept, options.user)
        log("debug", "capabilities", kept=",".join(privilege.held()) or "none")
        self.plant.vtep.start()
        if self._metrics:
            self._metrics.start()

    def _open_control(self, config: Config) -> Control | None:
        options = config.vtep
        if not options.control:
            return None
        return Control(
            options.control, self._selector, self._commands.execute,
            group=options.control_group, owner=self._owner,
        )  # fmt: skip

    def _open_metrics(self, config: Config) -> Metrics | None:
        if config.vtep.metrics is None:
            return None
        return Metrics(config.vtep.metrics, lambda: report.stats(self.plant))

    # -- the loop -----------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal ends it."""
        try:
            log("info", "running", local=self.plant.vtep.local, pid=os.getpid(), **self._counts())
            self._notice.ready(self._status())
            self._loop()
            log("info", "draining")
            self._notice.stopping()
        finally:
            self._close()
        log("info", "stopped")
        return 0

    def _loop(self) -> None:
        interval = self._notice.interval
        told = spoken = time.monotonic()
        while not self._ended:
            wait = min(interval or _STATUS_INTERVAL, _STATUS_INTERVAL)
            for key, mask in self._selector.select(wait):
                key.data(mask)
            self._take_signals()
            self._take_events()
            now = time.monotonic()
            if interval is not None and now - told >= interval / 2:
                self._notice.alive()
                told = now
            if now - spoken >= _STATUS_INTERVAL:
                self._notice.status(self._status())
                spoken = now

    def _drain_wake(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass

    def _on_signal(self, number: int, _: Any) -> None:
        self._signals.append(number)

    def _take_signals(self) -> None:
        while self._signals:
            number = self._signals.popleft()
            if number != signal.SIGHUP:
                log("info", "asked to stop", signal=signal.Signals(number).name)
                self._ended = True
                return
            with contextlib.suppress(OverlayError, OSError):  # logged where it failed
                self._reload()

    # -- events ---------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        """Called by the switch, in a thread of its own."""
        if len(self._events) == _EVENTS:
            self._events_lost += 1
        self._events.append(event)
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"e")

    def _take_events(self) -> None:
        if self._events_lost and self._control:
            self._control.tell({"kind": "lost", "count": self._events_lost})
            self._events_lost = 0
        for _ in range(len(self._events)):
            said = report.event(self._events.popleft())
            fields = {
                name: next(iter(value.values())) if isinstance(value, dict) else value
                for name, value in said.items()
                if name not in ("kind", "time")
            }
            level = {"drop": "warning", "error": "error", "mtu": "info"}.get(said["kind"], "debug")
            log(level, f"event {said['kind']}", **fields)
            if self._control:
                self._control.tell(said)

    # -- reload -----------------------------------------------------------------------

    def _reload(self) -> list[Step]:
        """Become what the file says now; raises, and changes nothing, where that cannot be."""
        self._notice.reloading()
        try:
            steps = self._become(load(self._path))
        except InvalidConfig as error:
            for line in error.lines:
                log("error", "the configuration is wrong, the old one stays", mistake=line)
            raise
        except (OverlayError, OSError, MemoryError) as error:
            log("error", "the reload failed, the old configuration stays", reason=_reason(error))
            raise
        finally:
            self._notice.ready(self._status())
        return steps

    def _become(self, new: Config) -> list[Step]:
        plan = difference(self._config, new)
        control, metrics = self._control, self._metrics
        opened: list[Control | Metrics] = []
        try:
            if {"control", "control_group"} & set(plan.options) and not (
                control and new.vtep.control == control.path
            ):
                control = self._open_control(new)
                opened += [control] if control else []
            if "metrics" in plan.options:
                metrics = self._open_metrics(new)
                opened += [metrics] if metrics else []
            steps = self.plant.perform(plan.steps)
        except BaseException:
            for one in opened:
                one.close()
            raise
        if control is not self._control:
            if self._control:
                self._control.close()
            self._control = control
        if metrics is not self._metrics:
            if self._metrics:
                self._metrics.close()
            self._metrics = metrics
            if metrics:
                metrics.start()
        self._config = new
        for step in steps:
            log("info", "changed", step=str(step))
        for name in plan.restart:
            log("warning", "takes effect after a restart", key=f"vtep.{name}")
        log("info", "reloaded", changes=len(steps), **self._counts())
        return steps

    # -- the rest -------------------------------------------------------------------------

    def _counts(self) -> dict[str, int]:
        members = list(self.plant.members.values())
        return {
            "networks": len(members),
            "ports": sum(len(member.ports) for member in members),
            "remotes": sum(len(member.remotes) for member in members),
        }

    def _status(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self._counts().items())

    def _close(self) -> None:
        """Give everything back, whatever of it there is."""
        if self._plant is not None:
            self._plant.close()
            self._take_events()
        if self._metrics is not None:
            self._metrics.close()
        if self._control is not None:
            self._control.close()
        self._notice.close()
        self._selector.close()
        signal.set_wakeup_fd(self._waker)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__

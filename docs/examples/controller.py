"""Three VTEPs and a controller that tells each of them where everybody is.

Run it: it needs no root.  The tunnels are UDP on the loopback interface, the hosts are queues
in memory.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import overlay
from overlay.io.memory import Memory
from overlay.switch import Event, Network, Port

VNI = 5001


class Controller:
    """Who is where, in one network that many VTEPs share."""

    def __init__(self) -> None:
        self.vteps: dict[str, overlay.Vtep] = {}
        self.hosts: dict[str, str] = {}  # MAC address: the VTEP it is behind
        self.events: asyncio.Queue[tuple[str, Event]] = asyncio.Queue()

    def add_vtep(self, local: str) -> Network:
        """A new VTEP: its network, a closed list of remotes, and all that is known."""
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(self.events.put_nowait, (local, event))

        vtep = overlay.Vtep(local, on_event=tell)
        network = vtep.add_network(
            VNI, remotes=list(self.vteps), accept="listed", suppress_arp=True, name="blue"
        )
        for other in self.vteps.values():
            other.networks[VNI].add_remote(local)
        self.vteps[local] = vtep
        for mac, home in self.hosts.items():
            self.enter(local, mac, home)
        vtep.start()
        return network

    def enter(self, local: str, mac: str, home: str) -> None:
        """Tell one VTEP that a host is behind another."""
        network = self.vteps[local].networks[VNI]
        remote = next(r for r in network.remotes if r.address == home)
        network.fdb.add(mac, remote)

    def announce(self, ip: str, mac: str) -> None:
        """Tell every VTEP what to answer when it is asked for this address."""
        for vtep in self.vteps.values():
            vtep.networks[VNI].neighbors.add(ip, mac)

    async def run(self) -> None:
        """React to what the VTEPs tell."""
        while True:
            local, event = await self.events.get()
            if event.kind == "learned" and isinstance(event.where, Port):
                self.hosts[event.mac] = local
                for other in self.vteps:
                    if other != local:
                        self.enter(other, event.mac, local)
            elif event.kind == "drop":
                print(f"{local}: first {event.status.name}: {event.status.text}")

    def close(self) -> None:
        for vtep in self.vteps.values():
            vtep.close()


@dataclass
class Host:
    """A host with one address, behind a port of a VTEP."""

    ip: str
    mac: bytes
    network: Network
    wire: Memory = field(init=False)

    def __post_init__(self) -> None:
        port, self.wire = Memory.pair()
        self.network.add_port(port)

    def ask(self, ip: str) -> None:
        """Who has this address?"""
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + self.mac + packed(self.ip)
        body += bytes(6) + packed(ip)
        self.wire.put([b"\xff" * 6 + self.mac + b"\x08\x06" + body])

    def send(self, mac: bytes, data: bytes) -> None:
        self.wire.put([mac + self.mac + b"\x88\xb5" + data.ljust(46)])


def packed(ip: str) -> bytes:
    return bytes(int(part) for part in ip.split("."))


async def wait_until(is_true: Callable[[], bool], seconds: float = 10.0) -> None:
    async def watch() -> None:
        while not is_true():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(watch(), seconds)


async def main() -> None:
    controller = Controller()
    task = asyncio.create_task(controller.run())
    try:
        networks = [controller.add_vtep(f"127.0.0.{n}") for n in (21, 22, 23)]
        hosts = [
            Host(f"10.0.0.{n}", bytes([2, 0, 0, 0, 0, n]), network)
            for n, network in enumerate(networks, 1)
        ]

        # Each host says something; the controller hears where it is and tells the others.
        for host in hosts:
            controller.announce(host.ip, host.mac.hex(":"))
            host.send(b"\xff" * 6, b"hello")
        await wait_until(lambda: len(controller.hosts) == 3)
        await wait_until(lambda: all(len(network.fdb) == 3 for network in networks))
        for host in hosts:
            assert len(host.wire.take(2, timeout=10)) == 2  # the two others' hello

        # ARP is answered by the host's own VTEP and goes no further.
        hosts[0].ask("10.0.0.3")
        (reply,) = hosts[0].wire.take(1, timeout=10)
        assert reply[6:12] == hosts[2].mac
        assert networks[0].stats.drops[overlay.Status.SUPPRESSED] == 1

        # What is sent to it goes to one place.
        hosts[0].send(hosts[2].mac, b"to you alone")
        assert len(hosts[2].wire.take(1, timeout=10)) == 1
        assert hosts[1].wire.take() == []

        # Nobody behind another VTEP can pretend to be it: the entry does not move.
        hosts[1].wire.put([hosts[0].mac + hosts[2].mac + b"\x88\xb5" + b"I am 3".ljust(46)])
        await wait_until(lambda: overlay.Status.SPOOFED_SOURCE in networks[1].stats.drops)
        print("three hosts, no unknown flooding, one liar caught")
    finally:
        task.cancel()
        controller.close()


if __name__ == "__main__":
    asyncio.run(main())

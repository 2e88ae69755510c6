"""ARP and ND suppression: what is learned, what is answered, and what never is."""

from __future__ import annotations

import ipaddress
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay import ConfigError
from overlay.io.device import live
from overlay.reference import neighbor as twin
from overlay.switch.neighbor import Neighbor, Neighbors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scapy = pytest.importorskip("scapy.all")

NeighborTable = live().NeighborTable

ASKER, HOST, OTHER = (f"02:00:00:00:00:{n:02x}" for n in (1, 2, 3))
IP = {4: "10.0.0.2", 6: "fd00::2"}
ASKER_IP = {4: "10.0.0.1", 6: "fd00::1"}
EVERYBODY = {4: "ff:ff:ff:ff:ff:ff", 6: "33:33:ff:00:00:02"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Site:
    def __init__(self, capacity: int = 100, age: int = 0) -> None:
        self.clock = Clock()
        self.table = NeighborTable(capacity, age, 7)
        self.neighbors = Neighbors(self.table, 0, self.clock)

    def learn(self, frame, network: int = 0) -> bool:
        return self.table.learn(network, bytes(frame), int(self.clock()))

    def answer(self, frame, network: int = 0) -> bytes | None:
        return self.table.answer(network, bytes(frame), int(self.clock()))


@pytest.fixture
def site() -> Site:
    return Site()


def ethernet(src: str, dst: str, vlan: int | None = None):
    head = scapy.Ether(src=src, dst=dst)
    return head if vlan is None else head / scapy.Dot1Q(vlan=vlan, prio=3)


def arp(op: int = 1, *, mac: str = ASKER, ip: str = ASKER_IP[4], target: str = IP[4],
        target_mac: str = "00:00:00:00:00:00", dst: str = EVERYBODY[4], vlan: int | None = None,
        source: str | None = None):  # fmt: skip
    return ethernet(source or mac, dst, vlan) / scapy.ARP(
        op=op, hwsrc=mac, psrc=ip, hwdst=target_mac, pdst=target
    )


def solicitation(*, mac: str = ASKER, ip: str = ASKER_IP[6], target: str = IP[6],
                 dst: str = EVERYBODY[6], option: str | None = ASKER, hops: int = 255,
                 vlan: int | None = None):  # fmt: skip
    packet = ethernet(mac, dst, vlan) / scapy.IPv6(src=ip, dst="ff02::1:ff00:2", hlim=hops)
    packet /= scapy.ICMPv6ND_NS(tgt=target)
    return packet if option is None else packet / scapy.ICMPv6NDOptSrcLLAddr(lladdr=option)


def advertisement(*, mac: str = HOST, ip: str = IP[6], option: str | None = HOST,
                  flags: tuple[int, int, int] = (0, 1, 1), to: str = ASKER_IP[6],
                  hops: int = 255, vlan: int | None = None):  # fmt: skip
    r, s, o = flags
    packet = ethernet(mac, ASKER, vlan) / scapy.IPv6(src=ip, dst=to, hlim=hops)
    packet /= scapy.ICMPv6ND_NA(tgt=ip, R=r, S=s, O=o)
    return packet if option is None else packet / scapy.ICMPv6NDOptDstLLAddr(lladdr=option)


def says(family: int, **fields):
    """HOST says where it is."""
    if family == 6:
        return advertisement(**fields)
    return arp(2, mac=HOST, ip=IP[4], target=ASKER_IP[4], target_mac=ASKER, dst=ASKER, **fields)


def asks(family: int, **fields):
    return arp(**fields) if family == 4 else solicitation(**fields)


# ---- answers -------------------------------------------------------------------------


@pytest.mark.parametrize("vlan", [None, 100])
def test_the_answer_is_the_hosts_own(site: Site, family: int, vlan: int | None) -> None:
    """scapy builds the very bytes; under a tag, the answer has it too."""
    site.learn(says(family, vlan=vlan))
    expected = ethernet(HOST, ASKER, vlan)
    if family == 4:
        expected /= scapy.ARP(op=2, hwsrc=HOST, psrc=IP[4], hwdst=ASKER, pdst=ASKER_IP[4])
    else:
        expected /= scapy.IPv6(src=IP[6], dst=ASKER_IP[6], hlim=255)
        expected /= scapy.ICMPv6ND_NA(tgt=IP[6], R=0, S=1, O=1)
        expected /= scapy.ICMPv6NDOptDstLLAddr(lladdr=HOST)
    assert site.answer(asks(family, vlan=vlan)) == bytes(expected)
    assert site.table.stats["answered"] == 1


def test_who_added_it_may_be_asked(site: Site, family: int) -> None:
    site.neighbors.add(IP[family], HOST)
    assert site.answer(asks(family)) is not None
    assert site.answer(asks(family), network=1) is None
    assert site.neighbors.remove(IP[family])
    assert not site.neighbors.remove(IP[family])
    assert site.answer(asks(family)) is None


def test_tags_are_apart(site: Site, family: int) -> None:
    """The same address may be someone else's under another tag."""
    site.learn(says(family, vlan=100))
    assert site.answer(asks(family, vlan=101)) is None
    assert site.answer(asks(family)) is None
    assert site.answer(asks(family, vlan=100)) is not None
    assert [(n.ip, n.vlan) for n in site.neighbors] == [(IP[family], 100)]
    assert site.neighbors.lookup(IP[family]) is None


@pytest.mark.parametrize(
    "question",
    [
        arp(ip=IP[4]),  # gratuitous
        arp(2, ip=IP[4], dst=EVERYBODY[4]),  # gratuitous, as a reply
        arp(ip="0.0.0.0"),  # a probe
        arp(dst=HOST),  # to one host: it answers itself
        arp(mac=HOST),  # about itself, by another of its addresses
        arp(source=HOST),
        arp(target="10.0.0.9"),
        arp(ip="224.0.0.1"),
        arp(mac="01:00:5e:00:00:01", source=ASKER),
        solicitation(ip="::", option=None),  # duplicate address detection
        solicitation(dst=HOST),
        solicitation(mac=HOST, option=HOST),
        solicitation(option=HOST),
        solicitation(hops=64),
        solicitation(target="fd00::9"),
        solicitation(target="ff02::1"),
        solicitation(ip="ff02::1"),
        solicitation(option="33:33:00:00:00:01"),
        advertisement(),
        scapy.Ether(src=ASKER, dst=EVERYBODY[4], type=0x0806) / b"\0\1\x08\0\6\4",
        scapy.Ether(src=ASKER, dst=EVERYBODY[4], type=0x88A8) / (b"\0\1" + bytes(arp())[12:]),
    ],
    ids=lambda packet: packet.summary().replace(" ", "-"),
)
def test_questions_that_are_not_answered(site: Site, question) -> None:
    site.neighbors.add(IP[4], HOST)
    site.neighbors.add(IP[6], HOST)
    assert site.answer(question) is None


def test_a_solicitation_without_an_option_is_answered_to_who_sent_it(site: Site) -> None:
    site.neighbors.add(IP[6], HOST)
    assert site.answer(solicitation(option=None)) == site.answer(solicitation())


def test_routers_say_so(site: Site) -> None:
    """A router whose answer does not say so would be taken off the hosts' lists."""
    router = scapy.ICMPv6ND_NA
    site.learn(advertisement(flags=(1, 1, 1)))
    assert scapy.Ether(site.answer(solicitation()))[router].R == 1
    site.learn(solicitation(mac=HOST, option=HOST, ip=IP[6], target=ASKER_IP[6]))
    assert scapy.Ether(site.answer(solicitation()))[router].R == 1
    site.learn(advertisement())
    assert scapy.Ether(site.answer(solicitation()))[router].R == 0
    site.neighbors.add(IP[6], HOST, router=True)
    assert scapy.Ether(site.answer(solicitation()))[router].R == 1
    assert site.neighbors.lookup(IP[6]) == Neighbor(IP[6], HOST, True, True, 0.0)


# ---- learning ---------------------------------------------------------------------------


def test_what_is_heard_is_known(site: Site, family: int) -> None:
    assert site.learn(says(family))
    assert not site.learn(says(family))
    site.clock.now += 5
    assert site.neighbors.lookup(IP[family]) == Neighbor(IP[family], HOST, False, False, 5.0)
    assert list(site.neighbors) == [site.neighbors.lookup(IP[family])]
    assert len(site.neighbors) == len(site.table) == 1
    assert site.neighbors.flush() == 1
    assert site.neighbors.lookup(IP[family]) is None


def test_arp_requests_and_gratuitous_arp_are_heard(site: Site) -> None:
    assert site.learn(arp())
    assert site.learn(arp(mac=HOST, ip=IP[4]))
    assert {n.ip for n in site.neighbors} == {ASKER_IP[4], IP[4]}


def test_addresses_move(site: Site, family: int) -> None:
    site.learn(says(family))
    moved = {"mac": OTHER, "option": OTHER} if family == 6 else {}
    frame = advertisement(**moved) if family == 6 else arp(mac=OTHER, ip=IP[4])
    assert site.learn(frame)
    assert site.neighbors.lookup(IP[family]).mac == OTHER
    assert site.table.stats["moved"] == 1


def test_an_advertisement_that_does_not_override(site: Site) -> None:
    """RFC 4861, 7.2.5: it tells those who do not know yet."""
    assert site.learn(advertisement(flags=(0, 1, 0)))
    assert not site.learn(advertisement(flags=(0, 1, 0), mac=OTHER, option=OTHER))
    assert site.neighbors.lookup(IP[6]).mac == HOST


def test_solicitations_confirm_and_do_not_introduce(site: Site) -> None:
    """They do not say whether it is a router, so that nobody could answer for it."""
    heard = solicitation(mac=HOST, option=HOST, ip=IP[6], target=ASKER_IP[6])
    assert not site.learn(heard)
    assert len(site.neighbors) == 0
    site.learn(advertisement())
    site.clock.now += 50
    site.learn(heard)
    assert site.neighbors.lookup(IP[6]).age == 0.0


@pytest.mark.parametrize(
    "frame",
    [
        arp(ip="0.0.0.0"),
        arp(ip="127.0.0.1"),
        arp(ip="239.1.1.1"),
        arp(3),
        arp(source=OTHER),  # not from who it says
        arp(mac="00:00:00:00:00:00"),
        advertisement(option=None),
        advertisement(mac=OTHER),
        advertisement(hops=254),
        advertisement(ip="ff02::1"),
        advertisement(to="ff02::1"),  # to all, as if one had asked
    ],
    ids=lambda packet: packet.summary().replace(" ", "-"),
)
def test_what_is_not_believed(site: Site, frame) -> None:
    assert not site.learn(frame)
    assert len(site.table) == 0


def test_no_frame_changes_what_the_operator_set(site: Site, family: int) -> None:
    site.neighbors.add(IP[family], OTHER)
    assert not site.learn(says(family))
    assert site.neighbors.lookup(IP[family]).mac == OTHER
    assert site.neighbors.flush() == 0
    assert site.neighbors.flush(static=True) == 1


@given(data=st.data())
def test_damaged_discovery_is_not_believed(data: st.DataObject) -> None:
    """Any one bit of the ICMPv6 message or of what its checksum covers."""
    frame = bytearray(bytes(advertisement()))
    bit = data.draw(st.integers(8 * (14 + 8), 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    site = Site()
    assert not site.learn(frame)
    assert site.answer(frame) is None


def test_what_is_old_is_not_answered(family: int) -> None:
    site = Site(age=60)
    site.neighbors.add("10.0.0.7", OTHER)
    site.learn(says(family))
    site.clock.now += 60
    assert site.answer(asks(family))
    site.clock.now += 1
    assert site.answer(asks(family)) is None
    assert site.neighbors.lookup(IP[family]) is None
    assert site.neighbors.lookup("10.0.0.7") is not None
    site.learn(says(family))
    assert site.answer(asks(family))


# ---- bounds -----------------------------------------------------------------------------


def test_the_one_heard_longest_ago_makes_room() -> None:
    site = Site(4)
    site.neighbors.add("10.0.1.1", OTHER)
    for n in range(3):
        site.learn(arp(ip=f"10.0.0.{n + 1}"))
    site.learn(arp(ip="10.0.0.1"))
    site.learn(arp(ip="10.0.0.9"))
    assert {n.ip for n in site.neighbors} == {"10.0.1.1", "10.0.0.1", "10.0.0.3", "10.0.0.9"}
    for n in range(100):
        site.learn(arp(ip=f"10.9.0.{n}"))
    assert site.neighbors.lookup("10.0.1.1").mac == OTHER
    stats = site.table.stats
    assert (stats["entries"], stats["evicted"]) == (4, 101)


def test_a_table_full_of_static_entries() -> None:
    site = Site(3)
    for n in range(3):
        site.neighbors.add(f"10.0.0.{n + 10}", HOST)
    assert not site.learn(arp())
    with pytest.raises(ConfigError, match="room"):
        site.neighbors.add("10.0.0.99", HOST)
    site.neighbors.add("10.0.0.11", OTHER)
    site.neighbors.remove("10.0.0.10")
    assert site.learn(arp())


def test_flush_of_a_mac_and_of_a_network(site: Site) -> None:
    site.learn(arp())
    site.learn(arp(mac=HOST, ip=IP[4]))
    site.learn(arp(), network=1)
    site.table.set(1, b"\x0a\0\0\x09", bytes(6), site.table.STATIC, 0)
    assert site.table.flush(0, bytes.fromhex(HOST.replace(":", ""))) == 1
    assert site.table.flush(1) == 1
    assert site.table.flush(1, statics=True) == 1
    assert [n.mac for n in site.neighbors] == [ASKER]


@pytest.mark.parametrize(
    ("ip", "mac", "field"),
    [
        ("0.0.0.0", HOST, "ip"),
        ("ff02::1", HOST, "ip"),
        ("10.0.0.300", HOST, "ip"),
        ("10.0.0.1", "01:00:00:00:00:00", "mac"),
        ("10.0.0.1", "00:00:00:00:00:00", "mac"),
    ],
)
def test_addresses_of_no_host_are_refused(site: Site, ip: str, mac: str, field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}="):
        site.neighbors.add(ip, mac)


def test_capacities() -> None:
    for capacity in (0, (1 << 24) + 1):
        with pytest.raises(ConfigError, match="capacity="):
            NeighborTable(capacity)


# ---- against the twin, and against a dictionary ----------------------------------------------

QUESTIONS = [bytes(q) for q in (arp(), arp(2), solicitation(), solicitation(option=None))]
QUESTIONS.append(bytes(solicitation()) + bytes(10))  # padded


def changed(frame: bytes, changes: list[tuple[int, int]], length: int) -> bytes:
    """With some bytes changed and the length cut; an ICMPv6 checksum that is right again."""
    raw = bytearray(frame)
    for at, value in changes:
        raw[at % len(raw)] = value
    if raw[12:14] == b"\x86\xdd" and raw[18:20] == frame[18:20]:
        end = 54 + struct.unpack_from("!H", raw, 18)[0]
        raw[56:58] = bytes(2)
        pseudo = raw[22:54] + struct.pack("!II", end - 54, raw[20])
        raw[56:58] = struct.pack("!H", twin.checksum(bytes(pseudo + raw[54:end])))
    return bytes(raw[: len(raw) - length])


@given(
    frame=st.sampled_from(QUESTIONS),
    changes=st.lists(st.tuples(st.integers(0, 90), st.sampled_from([0, 1, 2, 3, 4, 0xFF])),
                     max_size=3),
    cut=st.sampled_from([0, 0, 0, 1, 8, 20]),
    network=st.integers(0, 1),
)  # fmt: skip
def test_what_the_twin_answers(
    frame: bytes, changes: list[tuple[int, int]], cut: int, network: int
) -> None:
    """Whatever is asked, the same is answered, byte for byte, or nothing."""
    frame = changed(frame, changes, cut)
    known = {ipaddress.ip_address(IP[f]).packed: wire_mac(HOST) for f in (4, 6)}
    site = Site()
    for ip, mac in known.items():
        site.table.set(network, ip, mac, site.table.STATIC, 0)
    asked = twin.request(frame)
    expected = None
    if asked and asked.target in known and wire_mac(HOST) not in (asked.mac, asked.ethernet):
        expected = twin.answer(asked, known[asked.target])
    assert site.answer(frame, network) == expected


def wire_mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@given(st.lists(st.tuples(st.sampled_from("learn set remove flush".split()),
                          st.integers(1, 30), st.integers(1, 3)), max_size=60))  # fmt: skip
def test_the_table_is_a_dictionary_with_an_order(steps: list[tuple[str, int, int]]) -> None:
    site, capacity = Site(8), 8
    model: dict[str, tuple[str, bool]] = {}  # learned ones in the order of hearing
    for verb, n, k in steps:
        ip, mac = f"10.0.0.{n}", f"02:00:00:00:00:{k:02x}"
        learned = [i for i, (_, static) in model.items() if not static]
        if verb == "learn":
            site.learn(arp_bytes(ip, mac))
            if model.get(ip, ("", False))[1]:
                continue
            if ip in model:
                del model[ip]
            elif len(model) == capacity:
                if not learned:
                    continue
                del model[learned[0]]
            model[ip] = (mac, False)
        elif verb == "set":
            if ip not in model and len(model) == capacity:
                if not learned:
                    with pytest.raises(ConfigError):
                        site.neighbors.add(ip, mac)
                    continue
                del model[learned[0]]
            site.neighbors.add(ip, mac)
            model.pop(ip, None)
            model[ip] = (mac, True)
        elif verb == "remove":
            assert site.neighbors.remove(ip) == (model.pop(ip, None) is not None)
        elif k == 1:
            assert site.neighbors.flush() == len(learned)
            model = {i: entry for i, entry in model.items() if entry[1]}
        assert {e.ip: (e.mac, e.static) for e in site.neighbors} == model
        assert len(site.table) == len(model)


def arp_bytes(ip: str, mac: str) -> bytes:
    source, sender = wire_mac(mac), ipaddress.ip_address(ip).packed
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return b"\xff" * 6 + source + b"\x08\x06" + head + source + sender + bytes(6) + b"\x0a\0\0\1"


def test_many_threads_at_once() -> None:
    site = Site(64)
    site.neighbors.add(IP[4], HOST)
    question, answer = bytes(arp()), site.answer(arp())

    def work(n: int) -> None:
        for i in range(500):
            site.table.learn(n, arp_bytes(f"10.0.{n}.{i % 100}", OTHER), i)
            assert site.table.answer(0, question, i) in (answer, None)  # None: others had the lock
            if i % 50 == 0:
                site.table.entries(n)
                site.table.flush(n)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 9)))
    site.table.flush()
    assert [n.ip for n in site.neighbors] == [IP[4]]
    assert site.answer(arp()) == answer

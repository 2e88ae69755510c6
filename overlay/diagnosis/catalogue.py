"""Catalogue: every kind of finding, its severity, and what to do about it.

Lives here: the words.  Must not: how a fault is found.  The reasons of decap
have their own table, :mod:`.refusal`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .refusal import REFUSALS
from .report import Severity

__all__ = ["KINDS", "REFUSALS", "Kind"]

INFO, WARNING, ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR


@dataclass(frozen=True)
class Kind:
    """A kind of finding: ``meaning`` is what it says, ``advice`` what to do, a line each."""

    name: str
    severity: Severity
    meaning: str
    advice: str


def _kinds(*rows: tuple[str, Severity, str, str]) -> dict[str, Kind]:
    return {row[0]: Kind(*row) for row in rows}


#: Every kind by its name, in the order of the documentation.
KINDS = _kinds(
    # Checksums.
    ("ip-checksum", ERROR,
     "the outer IPv4 header checksum is wrong",
     "Routers drop the packet: find the device before this point that rewrote the header."),
    ("udp-checksum", ERROR,
     "the outer UDP checksum is neither zero nor right",
     "The receiver drops it: look for a middlebox that rewrites without updating checksums, or "
     "a NIC whose tunnel checksum offload is broken (ethtool -K DEV tx-udp_tnl-csum-segmentation "
     "off)."),
    ("tcp-checksum", ERROR,
     "the outer TCP checksum of an STT segment is wrong",
     "The receiver drops it: look for a firewall or load balancer that rewrites STT as TCP."),
    ("gre-checksum", ERROR,
     "the checksum in the GRE header is wrong",
     "The receiver drops it: look for a device that changes the payload of GRE on the way."),
    ("checksum-offloaded", INFO,
     "an outer checksum is unfinished, as the NIC is to finish it",
     "Nothing is wrong: the capture was taken on the sender before its NIC; capture on the wire to "
     "see the checksum."),
    ("udp-zero-checksum", WARNING,
     "the outer UDP checksum is zero over IPv6",
     "Receivers drop it by default (RFC 8200 8.1): turn checksums on at the sender (udp6zerocsumtx "
     "off), or let every receiver take zero (udp6zerocsumrx, RFC 6936)."),
    ("inner-ip-checksum", WARNING,
     "the inner IPv4 header checksum is wrong",
     "The tunnel carries it as it is and the receiving host drops it: look at the host or router "
     "that sent the inner packet."),
    ("inner-checksum", WARNING,
     "the inner TCP or UDP checksum is wrong",
     "The tunnel carries it as it is and the receiving host drops it: look at the inner sender, "
     "and at what rewrites inner packets (NAT, MSS clamps)."),
    ("inner-checksum-unfinished", WARNING,
     "the inner TCP or UDP checksum is the pseudo-header sum alone: it went into the tunnel "
     "unfinished",
     "If this is the wire, receivers drop it: the sending NIC cannot offload inside tunnels; turn "
     "it off for the sending port (ethtool -K DEV tx off). On the sender itself it may still be "
     "finished by its NIC."),
    ("inner-checksum-offloaded", INFO,
     "the inner TCP or UDP checksum is unfinished, and the outer headers show that the NIC is to "
     "finish it",
     "Nothing is wrong: the capture was taken on the sender before its NIC."),
    # Sizes.
    ("super-packet", INFO,
     "a packet is longer than any link takes: the NIC or the host has yet to cut it (GSO), or has "
     "put it together (GRO, LRO)",
     "Sizes and checksums here are not those of the wire: capture on the wire, or turn off tso, "
     "gso and gro for the capture."),
    ("big-tcp", INFO,
     "a length field is zero because the packet is longer than it can say (BIG TCP)",
     "Nothing is wrong on a sender's or receiver's own capture; no wire carries such a packet."),
    # Reserved bits and ports.
    ("vxlan-reserved", WARNING,
     "reserved bits of the VXLAN header are set",
     "RFC 7348 has receivers ignore them, but Linux and Open vSwitch drop the packet: find the "
     "sender's extension (GBP, GPE, vendor) and turn it off, or on at both ends."),
    ("group-policy", INFO,
     "the VXLAN header carries a group policy (GBP)",
     "Both ends need the extension: Linux and Open vSwitch without gbp drop these packets."),
    ("gpe-on-vxlan-port", WARNING,
     "the VXLAN header has GPE flags on VXLAN's port",
     "Receivers that know plain VXLAN drop it (Linux, Open vSwitch): send GPE to UDP port 4790, "
     "or make both ends GPE."),
    ("vxlan-on-gpe-port", INFO,
     "the header on GPE's port has no next protocol: it is read as plain VXLAN",
     "Linux in GPE mode drops it: set the P bit at the sender, or use port 4789 for VXLAN."),
    ("gpe-reserved", WARNING,
     "reserved bits of the VXLAN-GPE header are set",
     "Linux drops such packets: turn off the sender's extension."),
    ("geneve-reserved", INFO,
     "reserved bits of the GENEVE header are set",
     "Receivers must ignore them (RFC 8926 3.4), and some hardware does not: clear them."),
    ("gre-reserved", WARNING,
     "reserved bits of the GRE header are set",
     "Linux and Open vSwitch drop it, as bits 1 to 5 demand (RFC 2784 2.3): clear them at the "
     "sender."),
    ("nvgre-vsid", INFO,
     "the VSID is in a range that RFC 7637 reserves",
     "If this is NVGRE choose a VSID in 0x1000..0xFFFFFE; if it is GRE with a 32-bit key nothing "
     "is wrong."),
    ("tunnel-port", INFO,
     "packets to another UDP port look like a tunnel",
     "They were not judged: give the port (--port), and check that both ends use the same one "
     "(Linux's old default for VXLAN is 8472)."),
    # Paths.
    ("fixed-entropy", WARNING,
     "many inner flows share one source port, or one FlowID",
     "Every flow takes the same path and the same receive queue: let the VTEP hash the inner flow "
     "into the source port (RFC 7348 5), range 49152..65535."),
    ("low-entropy", WARNING,
     "the source ports are far fewer than the inner flows",
     "Widen the VTEP's source port range (Linux: ip link ... srcport 49152 65535)."),
    ("path-imbalance", WARNING,
     "a router that hashes the outer headers would load its paths very unequally",
     "Give the outer headers more entropy, and check that routers hash UDP ports (and the GRE "
     "key for GRE)."),
    ("flow-port-change", WARNING,
     "an inner flow changes its outer source port again and again",
     "Its packets take different paths and arrive out of order: look for a VTEP that hashes more "
     "than the inner flow, or two that send for one host."),
    # MTU.
    ("outer-fragment", WARNING,
     "outer packets are IP fragments",
     "VTEPs must not fragment and may drop fragments (RFC 7348 4.3): raise the underlay's MTU, or "
     "lower the inner one by the tunnel's overhead."),
    ("path-mtu", WARNING,
     "a router says by ICMP that a tunnel's packets do not fit its link",
     "Raise the MTU of that link, or lower the inner MTU to what fits it (overlay mtu)."),
    ("path-mtu-ignored", ERROR,
     "packets above the MTU that a router stated are sent all the same",
     "They are lost: the VTEP does not learn path MTUs; lower the inner MTU by hand, and let ICMP "
     "reach the VTEP."),
    ("port-unreachable", ERROR,
     "the other end says by ICMP that it does not take the tunnel's packets",
     "No tunnel end point listens there on that port or protocol: check its configuration, its "
     "firewall and the port of both ends."),
    ("mtu-black-hole", ERROR,
     "an inner TCP segment is sent again and again and never acknowledged, while smaller ones are",
     "Packets of this size are lost in silence: raise the underlay's MTU, lower the inner MTU or "
     "clamp the MSS, and let ICMP through."),
    ("mss-too-large", WARNING,
     "an inner TCP handshake agrees on segments that do not fit the tunnel's path",
     "Clamp the MSS at the tunnel, or lower the inner MTU."),
    ("above-mtu", WARNING,
     "outer packets are longer than the MTU that was given",
     "They are fragmented or lost: lower the inner MTU by the tunnel's overhead."),
    ("df-clear", INFO,
     "the outer IPv4 header lets routers fragment",
     "Where packets are too large they are fragmented and not reported: set DF on the tunnel "
     "(Linux: ip link ... df set) once path MTUs are right."),
    # Ends.
    ("asymmetric-key", WARNING,
     "two hosts talk by one key in one direction and by another in the other",
     "Map both ends of the network to the same VNI, VSID or Context ID."),
    ("one-way", WARNING,
     "packets go one way only, while other tunnels of the capture go both",
     "Check the remote's configuration (its remotes, keys, firewall) and the route back."),
    ("mac-flapping", WARNING,
     "one inner source MAC address moves between end points again and again",
     "Look for a loop behind the VTEPs, a doubled MAC address, or a bond that is not one."),
    ("mac-moved", INFO,
     "an inner source MAC address moved to another end point",
     "As after a migration; if nothing was moved look for a doubled MAC address."),
    ("duplicate-frame", WARNING,
     "the same frame is sent twice in the same tunnel within 50 ms (1 ms without an IPv4 ID)",
     "Look for two paths that flood, two VTEPs that replicate, or a capture on two points of one "
     "path (-i any)."),
    ("re-encapsulated", WARNING,
     "a frame that came to an end point is sent on by it in another tunnel",
     "VTEPs should not send tunnel to tunnel (split horizon): check whether a hub is meant here."),
    ("frame-loop", ERROR,
     "a frame comes back to the end point that sent it",
     "There is a loop: turn split horizon on, or look for a second path between the networks."),
    # STT.
    ("stt-incomplete", WARNING,
     "an STT frame never became whole",
     "Its segments were lost: look for drops on the path, or a device that checks TCP state; the "
     "receiver waits, then drops what it has."),
    ("stt-duplicate", INFO,
     "an STT segment came twice",
     "Look for a doubled path, or a capture on two points of one path."),
    ("stt-overlap", WARNING,
     "STT segments of one frame overlap",
     "The receiver drops them: look for a sender that uses a frame ID again too soon, or for a "
     "device that cuts STT as TCP."),
    # Marks.
    ("ecn-congestion", ERROR,
     "congestion was marked on the outer header of a frame that is Not-ECT",
     "Receivers must drop it (RFC 6040 4.2): let the encapsulator send Not-ECT for such frames."),
    ("ecn-not-propagated", INFO,
     "the outer ECN field is Not-ECT although the inner one is ECN-capable",
     "Routers drop where they could mark: let the VTEP copy ECN (RFC 6040, normal mode)."),
    ("dscp-not-propagated", INFO,
     "the outer DSCP is 0 although the inner one is not",
     "The underlay treats it as best effort: let the VTEP inherit the DSCP if that is not meant."),
    ("ttl-low", WARNING,
     "the outer TTL is nearly used up",
     "Raise the tunnel's TTL, and look for a routing loop in the underlay."),
    # What could not be judged.
    ("refused", WARNING,
     "decap refuses the packet; the status says why",
     "See the status."),
    ("truncated", INFO,
     "the capture holds less of the packets than the wire had",
     "Checksums and what is beyond were not judged: capture with a larger snap length (-s 0)."),
)  # fmt: skip

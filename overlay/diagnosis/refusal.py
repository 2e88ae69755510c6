"""Refusal: what each reason of decap means to the one who runs the network.

Lives here: a severity and a line of advice for every status that decap gives.
"""

from __future__ import annotations

from overlay.errors import Status

from .report import Severity

__all__ = ["REFUSALS"]

_INFO, _WARNING, _ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR
_DAMAGED = "The packet is damaged or forged: look at the sender and at what rewrites it on the way."
_CUT_OR_DAMAGED = "Cut by the sender or on the way: compare with a capture at the sender."

ROWS: dict[str, tuple[Severity, str]] = {
    "BAD_ROW": (_ERROR, "The batch is not as it says: make it by Batch.from_pcap."),
    "LINK_TYPE": (_INFO, "This capture's link type is not read: capture on an Ethernet interface."),
    "ETHERNET_TRUNCATED": (_WARNING, _CUT_OR_DAMAGED),
    "NOT_IP": (_INFO, "No tunnel here: nothing to do."),
    "IP_TRUNCATED": (_WARNING, _CUT_OR_DAMAGED),
    "IP_VERSION": (_WARNING, "EtherType and IP version differ: look at what rewrites the packet."),
    "IP_HEADER_LENGTH": (_WARNING, _DAMAGED),
    "IP_LENGTH": (_WARNING, "The packet is shorter than its IP header says: cut on the way."),
    "IP_CHECKSUM": (_ERROR, "Routers drop it: find the device that rewrote the header."),
    "IP_FRAGMENT": (_WARNING, "Raise the underlay's MTU, or lower the inner one."),
    "IP_EXTENSION": (_WARNING, "Extension headers overrun the packet: look at the sender."),
    "UNKNOWN_PROTOCOL": (_INFO, "No tunnel that is known here: give the port if it is one."),
    "UDP_TRUNCATED": (_WARNING, _CUT_OR_DAMAGED),
    "UDP_LENGTH": (_WARNING, "UDP and IP lengths disagree: look at what rewrites the packet."),
    "UDP_CHECKSUM": (_ERROR, "The receiver drops it: look for broken checksum offload."),
    "UDP_ZERO_CHECKSUM": (_WARNING, "Turn checksums on at the sender, or let the receiver take 0."),
    "HEADER_TRUNCATED": (_WARNING, _CUT_OR_DAMAGED),
    "VXLAN_NO_VNI": (_ERROR, "Every receiver drops it: the sender does not set the I flag, or this "
                             "is not VXLAN."),
    "VXLAN_RESERVED": (_WARNING, "Linux and Open vSwitch drop it: turn off the extension."),
    "GRE_VERSION": (_INFO, "PPTP (enhanced GRE) and no tunnel of frames: nothing to do."),
    "GRE_ROUTING": (_WARNING, "Source routing in GRE is obsolete (RFC 2784): receivers drop it."),
    "GRE_PROTOCOL": (_INFO, "This GRE carries no frames that are read here."),
    "GRE_NO_KEY": (_INFO, "Plain GRE with Ethernet, without a key: no NVGRE."),
    "GRE_CHECKSUM_PRESENT": (_WARNING, "NVGRE forbids the checksum (RFC 7637 3.2): turn it off, or "
                                       "call it GRE."),
    "GRE_SEQUENCE_PRESENT": (_WARNING, "NVGRE forbids sequence numbers (RFC 7637 3.2): turn them "
                                       "off, or call it GRE."),
    "GRE_RESERVED": (_WARNING, "Receivers drop it: clear the reserved bits at the sender."),
    "GRE_CHECKSUM": (_ERROR, "The receiver drops it: find what changes the payload on the way."),
    "NVGRE_VSID": (_WARNING, "Choose a VSID in 0x1000..0xFFFFFE."),
    "TCP_TRUNCATED": (_WARNING, _CUT_OR_DAMAGED),
    "TCP_CHECKSUM": (_ERROR, "The receiver drops it: look for a device that rewrites STT as TCP."),
    "STT_DATA_OFFSET": (_WARNING, "There are TCP options: real TCP to port 7471, or a device that "
                                  "adds options to STT."),
    "STT_EMPTY": (_INFO, "Probably real TCP to port 7471: a handshake or an acknowledgement."),
    "STT_LENGTH": (_WARNING, "The frame length is impossible: not STT, or a broken sender."),
    "STT_BOUNDS": (_WARNING, "Length and offset disagree: real TCP, or a device that cuts STT."),
    "STT_INCOMPLETE": (_INFO, "One segment of several: it is put together."),
    "STT_DUPLICATE": (_INFO, "Look for a doubled path."),
    "STT_OVERLAP": (_WARNING, "Look for a frame ID that is used again too soon."),
    "STT_VERSION": (_ERROR, "The receiver does not know this version of STT."),
    "STT_FLAGS": (_WARNING, "No checksum is verified and partial at once: look at the sender."),
    "STT_L4_OFFSET": (_ERROR, "The receiver drops it: the sender's offload fields are wrong."),
    "STT_L4_HEADER": (_ERROR, "The receiver drops it: the sender's offload fields are wrong."),
    "STT_OFFLOAD": (_ERROR, "The receiver drops it: offload fields and inner packet differ."),
    "GENEVE_VERSION": (_ERROR, "Receivers drop it: this is no GENEVE of version 0."),
    "GENEVE_CONTROL": (_INFO, "A packet of the control plane (OAM): it carries no tenant's frame."),
    "GENEVE_PROTOCOL": (_WARNING, "Receivers of Ethernet drop it: let the sender carry Ethernet."),
    "GENEVE_OPTIONS": (_ERROR, "Receivers drop it: the sender's option lengths are wrong."),
    "GENEVE_CRITICAL": (_ERROR, "Receivers that do not know the option drop it: teach them, or "
                                "let the sender leave it out."),
    "GPE_VERSION": (_ERROR, "Receivers drop it: this is no VXLAN-GPE of version 0."),
    "GPE_CONTROL": (_INFO, "A packet of the control plane (OAM): it carries no tenant's frame."),
    "GPE_NEXT_PROTOCOL": (_WARNING, "Receivers of Ethernet drop it: check what the sender carries "
                                    "(NSH, MPLS)."),
    "GPE_SHIM": (_WARNING, "Too many shim headers: look at the sender."),
    "ERSPAN_VERSION": (_WARNING, "ERSPAN version and GRE protocol differ: set the same type at "
                                 "both ends."),
    "ERSPAN_SEQUENCE": (_WARNING, "Some senders leave the sequence number out; receivers that "
                                  "insist on it drop the mirror."),
    "ERSPAN_FRAME_TYPE": (_WARNING, "The mirror carries neither Ethernet nor IP: look at the "
                                    "session's source."),
    "UNKNOWN_KEY": (_WARNING, "No network has this key here: check the mapping of both ends."),
    "INNER_TOO_SHORT": (_WARNING, "There is no Ethernet frame in the tunnel: look at the sender."),
    "INNER_TAGGED": (_WARNING, "NVGRE carries no VLAN tags (RFC 7637 3.3): strip them before the "
                               "tunnel."),
    "ECN_CONGESTION": (_ERROR, "Let the encapsulator send Not-ECT for frames that are Not-ECT."),
}  # fmt: skip

#: By status: how bad it is, and what to do.
REFUSALS: dict[Status, tuple[Severity, str]] = {
    status: ROWS.get(status.name, (_WARNING, f"Decap says: {status.text}.")) for status in Status
}

"""Cloud: the MTUs of networks that tunnels are built over, each with where it is said."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLOUDS", "Cloud"]


@dataclass(frozen=True)
class Cloud:
    """``mtu`` is that of an interface as it comes, ``most`` the largest that can be set;
    ``outside`` is what packets that leave the virtual network must fit.
    """

    name: str
    mtu: int
    most: int
    outside: int
    note: str
    source: str


#: By the name on the command line.
CLOUDS: dict[str, Cloud] = {
    "aws": Cloud(
        "Amazon VPC", 9001, 9001, 1500,
        "8500 through a transit gateway; 1500 through an internet gateway or VPN",
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/network_mtu.html",
    ),
    "azure": Cloud(
        "Azure virtual network", 1500, 9000, 1400,
        "inside a network up to 3900 or, with MANA adapters, 9000; ExpressRoute fragments "
        "above 1400",
        "https://learn.microsoft.com/azure/virtual-network/how-to-virtual-machine-mtu",
    ),
    "gcp": Cloud(
        "Google VPC", 1460, 8896, 1460,
        "the network's MTU can be set from 1300 to 8896",
        "https://cloud.google.com/vpc/docs/mtu",
    ),
}  # fmt: skip

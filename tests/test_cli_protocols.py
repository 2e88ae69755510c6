"""The command with GENEVE, VXLAN-GPE, plain GRE and ERSPAN: their words, both ways."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

import frames
import overlay
import shims
from command import ENDS, packets, report, run, write

UDP4 = frames.UDP4
OF = {"local": "192.0.2.1", "remote": "192.0.2.2"}


def encapped(tmp_path: Path, *args: object) -> list[bytes]:
    source, out = write(tmp_path / "in.pcap", [UDP4, UDP4]), tmp_path / "out.pcap"
    result = run("encap", source, out, *args, *ENDS)
    assert result.exit_code == 0, result.output
    return [row[0] for row in packets(out)]


def test_geneve(tmp_path: Path) -> None:
    made = encapped(
        tmp_path, "--tunnel", "geneve", "--id", 7, "--options", "0102:80:00010002",
        "--options", "FFFF:01", "--oam", "--port", 6082, "--no-checksum",
    )  # fmt: skip
    options = [overlay.GeneveOption(0x0102, 0x80, b"\0\1\0\2"), overlay.GeneveOption(0xFFFF, 1)]
    tunnel = overlay.Geneve(vni=7, options=options, oam=True, port=6082, checksum=False, **OF)
    assert made == tunnel.encap_many([UDP4] * 2)


def test_gre_and_erspan_count(tmp_path: Path) -> None:
    made = encapped(tmp_path, "--tunnel", "gre", "--id", "none", "--sequence", 5, "--checksum")
    tunnel = overlay.GRE(sequence=5, checksum=True, **OF)
    assert made == tunnel.encap_many([UDP4] * 2)
    made = encapped(tmp_path, "--tunnel", "gre", "--id", "0xDEADBEEF", "--payload", "ip")
    assert made == overlay.GRE(key=0xDEADBEEF, payload="ip", **OF).encap_many([UDP4] * 2)
    made = encapped(
        tmp_path, "--tunnel", "erspan", "--id", 9, "--type", 3, "--sequence", 1, "--vlan", 5,
        "--direction", "egress", "--timestamp", 77,
    )  # fmt: skip
    tunnel = overlay.ERSPAN(
        session_id=9, type=3, sequence=1, vlan=5, direction="egress", timestamp=77, **OF
    )
    assert made == tunnel.encap_many([UDP4] * 2)
    made = encapped(tmp_path, "--tunnel", "erspan", "--id", "none", "--type", 1)
    assert made == overlay.ERSPAN(type=1, **OF).encap_many([UDP4] * 2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["geneve", "--id", 7, "--options", "102:80"], "not class:type:data"),
        (["geneve", "--id", 7, "--options", "0102:80:0001"], "a multiple of 4"),
        (["geneve", "--id", 7, "--options", "0102:80:" + "00" * 128], "0 to 124 bytes"),
        (["geneve", "--id", "none"], "--id"),
        (["vxlan", "--id", 7, "--options", "0102:80"], "--options is no option of vxlan"),
        (["gre", "--id", 2**33], "--id"),
        (["erspan", "--id", 1024], "--id"),
        (["erspan", "--id", 4, "--type", 1], "--id"),
        (["erspan", "--id", 4, "--index", 1, "--type", 3], "--index"),
        (["nvgre", "--id", 0x5000, "--payload", "ip"], "--payload is no option of nvgre"),
    ],
)
def test_wrong_words(tmp_path: Path, args: list, words: str) -> None:
    source = write(tmp_path / "in.pcap", [UDP4])
    result = run("encap", source, tmp_path / "out.pcap", "--tunnel", *args, *ENDS)
    assert result.exit_code == 2
    assert words in result.stderr.replace("\n", " ")
    assert not (tmp_path / "out.pcap").exists()


def test_decap_of_ip(tmp_path: Path) -> None:
    """Only if asked for, or leniently; the frames have no MAC addresses."""
    source = write(tmp_path / "in.pcap", [shims.geneve(UDP4[14:], proto=0x0800)])
    out = tmp_path / "out.pcap"
    assert report("decap", source, out)["frames"] == 0
    for args in (["--payload", "any"], ["--profile", "lenient"]):
        assert report("decap", source, out, *args)["frames"] == 1
        assert packets(out)[0][0] == bytes(12) + UDP4[12:]


def test_decap_with_known_options_and_ports(tmp_path: Path) -> None:
    made = [shims.geneve(UDP4, options=shims.option(0x0103, 0x81), port=6082),
            shims.gpe(UDP4, port=4000)]  # fmt: skip
    source, out = write(tmp_path / "in.pcap", made), tmp_path / "out.pcap"
    ports = ["--geneve-port", 6082, "--gpe-port", 4000]
    said = report("decap", source, out, *ports)
    assert (said["frames"], said["refused"]) == (1, 1)
    said = report("decap", source, out, *ports, "--known-option", "0103:81")
    assert said["protocols"] == {"geneve": 1, "vxlan-gpe": 1}
    result = run("decap", source, out, "--known-option", "0103:81:00")
    assert (result.exit_code, "class:type" in result.stderr) == (2, True)


def test_decap_of_tunnels_within(tmp_path: Path) -> None:
    """--depth follows the new ones too, and leaves what is a frame."""
    inside = shims.geneve(shims.erspan(shims.gpe(UDP4), 3))
    source, out = write(tmp_path / "in.pcap", [inside]), tmp_path / "out.pcap"
    assert report("decap", source, out, "--depth", 8)["frames"] == 1
    assert packets(out)[0][0] == UDP4
    bad = shims.geneve(shims.geneve(UDP4, version=1))
    write(source, [bad])
    said = report("decap", source, out, "--depth", 2)
    assert (said["frames"], said["refused"]) == (0, 1)


def test_show(tmp_path: Path) -> None:
    made = [
        shims.geneve(UDP4, vni=5), shims.gpe(frames.TCP6[14:], following=2),
        shims.gretap(UDP4), shims.erspan(frames.ARP, 2), shims.geneve(UDP4, port=6000),
    ]  # fmt: skip
    source = write(tmp_path / "in.pcap", made)
    lines = run("show", source, "--profile", "lenient", "--json").stdout.splitlines()
    said = [json.loads(line) for line in lines]
    assert [row.get("protocol") for row in said] == ["geneve", "vxlan-gpe", "gre", "erspan", None]
    assert [row.get("key") for row in said[:4]] == [5, 0x123456, None, 0x155]
    assert said[1]["inner"]["type"] == "TCP 40000 > 443"
    again = json.loads(run("show", source, "--geneve-port", 6000, "--json").stdout.splitlines()[-1])
    assert again["protocol"] == "geneve"


def test_show_every_field(tmp_path: Path) -> None:
    """Together they are the packet, byte for byte, also where it was refused."""
    option = bytes.fromhex("0102800100030007")
    made = [shims.geneve(UDP4, vni=5, options=option), shims.gretap(UDP4), bytes(20)]
    source = write(tmp_path / "in.pcap", made)
    lines = run("show", source, "--profile", "lenient", "--fields", "--json").stdout.splitlines()
    for packet, line in zip(made, lines, strict=True):
        found = json.loads(line)["fields"]
        assert b"".join(bytes.fromhex(field["bytes"]) for field in found) == packet
        sizes = [len(field["bytes"]) // 2 for field in found]
        assert [field["offset"] for field in found] == [sum(sizes[:n]) for n in range(len(found))]
    said = run("show", source, "--profile", "lenient", "--fields").stdout.splitlines()
    assert f"{54:>11}  {'geneve.option.data':<32} 00030007" in said
    assert len(said) == len(made) + sum(len(json.loads(line)["fields"]) for line in lines)


@pytest.mark.parametrize("name", list(shims.BUILD))
def test_every_byte_has_a_name(name: str, family: int) -> None:
    """layout.fields, of whole packets and of every piece of them."""
    from overlay.layout import fields

    extra = {"geneve": {"options": shims.option(1, 2, bytes(8))}}.get(name, {})
    packet = shims.BUILD[name](UDP4, family=family, **extra)
    found = fields(packet)
    assert sum(field.size for field in found) == len(packet)
    assert found[-1].header == "inner"
    headers = [field.header for field in found]
    assert headers.index("inner.ethernet") > headers.index("outer.ethernet")
    for cut in range(len(packet)):
        places = [(f.offset, f.size) for f in fields(packet[:cut])]
        assert sum(size for _, size in places) == cut
        assert all(a + size == b for (a, size), (b, _) in itertools.pairwise(places))


def test_names_of_the_new_headers() -> None:
    from overlay.layout import fields, name_at

    geneve = shims.geneve(UDP4, options=shims.option(1, 2, bytes(8)))
    assert name_at(fields(geneve), 42) == "geneve.version_length"
    assert name_at(fields(geneve), 46) == "geneve.vni"
    assert name_at(fields(geneve), 50) == "geneve.option.class"
    assert name_at(fields(geneve), 54) == "geneve.option.data"
    shimmed = shims.gpe(shims.shim(1, bytes(4)) + UDP4[14:], following=0x80)
    assert name_at(fields(shimmed), 45) == "gpe.next_protocol"
    assert name_at(fields(shimmed), 53) == "gpe.shim.next_protocol"
    assert name_at(fields(shimmed), 58) == "inner.ipv4.version_ihl"
    keyed = shims.gretap(UDP4, key=5)
    assert name_at(fields(keyed), 38) == "nvgre.vsid"
    assert name_at(fields(keyed, by=overlay.GRE(key=5, **OF)), 38) == "gre.key"
    assert name_at(fields(keyed, by=overlay.Profile(protocols=("gre",))), 38) == "gre.key"
    mirrored = shims.erspan(UDP4, 3, header={"last": 0x8001, "platform": bytes(8)})
    assert name_at(fields(mirrored), 38) == "gre.sequence"
    assert name_at(fields(mirrored), 52) == "erspan.flags"
    assert name_at(fields(mirrored), 54) == "erspan.platform"


def test_the_live_switch_speaks_three(tmp_path: Path) -> None:
    """The other protocols are for packets: ctl, lab and a configuration do not offer them."""
    from overlay.switch import SWITCHED, Vtep

    assert list(SWITCHED) == ["vxlan", "nvgre", "stt"]
    for args in (["ctl", "add", "--tunnel", "geneve"], ["lab", "--tunnel", "geneve"]):
        assert run(*args).exit_code == 2
    with pytest.raises(overlay.ConfigError, match="tunnel='geneve'"):
        Vtep(local="192.0.2.1", tunnel="geneve")
    file = tmp_path / "vtep.toml"
    file.write_text('[vtep]\nlocal = "192.0.2.1"\ntunnel = "gre"\n')
    result = run("run", file, "--check")
    assert result.exit_code == 2
    assert 'got "gre"' in result.stderr

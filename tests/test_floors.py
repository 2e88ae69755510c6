"""Who may import whom: arrows only go down, in Python and in C.

The floors are written here once; a new module has to be given its floor.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "overlay"
CSRC = ROOT / "csrc"

# Lowest first.  Modules of one floor are blind to each other.
PYTHON_FLOORS = [
    {"_command", "errors"},
    {"address"},
    {"tunnel"},
    {"profile", "batch", "columns", "window", "rule", "geneve"},
    {"codec"},
    {"layout", "record", "fragment", "editor"},
    {"compiled_editor"},
    {"compiled"},
    {"_cffi_build", "_cffi_lib"},
    {"_native", "_cffi_core", "_live", "live"},
    {"reference", "native", "_cffi"},
    {"_backend"},
    {"check", "io", "match", "traffic"},
    {"rewrite"},
    {"switch"},
    {"__init__"},
    {"service", "lab", "diagnosis", "ptf"},
    {"cost", "conformance"},
    {"scapy"},
    {"pytest", "strategies"},
    {"cli"},
    {"__main__"},
]
# (who, whom): imports upwards that are made at call time.
UPWARDS = {("batch", "io"), ("codec", "_backend"), ("cost", "scapy")}

C_FLOORS = [
    {"overlay"},
    {"wire", "status"},
    {"checksum", "hash"},
    {"index"},
    {"inner"},
    {"offload", "outer"},
    {"kernel", "decap"},
    {"udp_header", "gre_header"},
    {"vxlan", "nvgre", "stt", "geneve", "gpe", "gre", "erspan", "pcap", "rewrite"},
    {"stt_reassembly", "stt_segment", "rewrite_match"},
    {"plain"},
    {"tunnel", "fdb", "neighbor", "fragment", "split", "icmp"},
    {"bridge", "superframe", "inspect", "fragment_batch", "rewrite_look"},
    {"device", "vnet", "path"},
    {"tap", "udp", "packet", "xdp", "memory", "load"},
    {"udp_socket", "packet_filter", "packet_receive", "packet_send", "xdp_program", "xdp_send"},
    {"udp_receive", "udp_send"},
    {"loop"},
    {"chassis"},
]
C_SYSTEM_HEADERS = {"stdbool.h", "stddef.h", "stdint.h", "string.h", "immintrin.h", "arm_neon.h"}


def floor_of(floors: list[set[str]], name: str) -> int:
    for number, floor in enumerate(floors):
        if name in floor:
            return number
    raise AssertionError(f"{name} has no floor: give it one in {Path(__file__).name}")


@cache
def units() -> dict[Path, str]:
    """Every Python source of the package and the unit (module or subpackage) it is in."""
    return {
        path: path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def imported(path: Path) -> list[tuple[str, bool]]:
    """The overlay modules that a file imports, dotted, and whether only when called.

    Imports for type checkers alone are no arrows.
    """
    package = ("overlay", *path.relative_to(PACKAGE).parts[:-1])

    def walk(node: ast.AST, called: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, called) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}", called
        called = called or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, called)

    return list(walk(ast.parse(path.read_text()), False))


@cache
def unit_of(module: str) -> str | None:
    """The unit that a dotted import reaches, or None outside the package."""
    parts = module.split(".")
    if parts[0] != "overlay":
        return None
    known = set(units().values()) | {name for floor in PYTHON_FLOORS for name in floor}
    return parts[1] if len(parts) > 1 and parts[1] in known else "__init__"


def test_python_imports_go_down() -> None:
    wrong = []
    for path, unit in units().items():
        for module, called in imported(path):
            target = unit_of(module)
            if target is None or target == unit or (called and (unit, target) in UPWARDS):
                continue
            if floor_of(PYTHON_FLOORS, target) >= floor_of(PYTHON_FLOORS, unit):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_reference_is_blind_to_the_c_core() -> None:
    for path, unit in units().items():
        if unit == "reference":
            reached = {unit_of(module) for module, _ in imported(path)}
            assert not reached & {"native", "_native", "_cffi", "_backend"}, path


def users_of(library: str) -> set[Path]:
    return {p for p in units() for module, _ in imported(p) if module.split(".")[0] == library}


def test_scapy_stays_in_its_bridge() -> None:
    """scapy is under the GPL: the bridge to it imports it, and nothing else does."""
    bridge = {path for path, unit in units().items() if unit == "scapy"}
    assert users_of("scapy") == bridge - {PACKAGE / "scapy" / "__init__.py"}


def test_dpkt_is_only_timed() -> None:
    assert users_of("dpkt") == {PACKAGE / "cost" / "contender.py"}


def test_import_is_light() -> None:
    """`import overlay` loads numpy and nothing that only the command line or tests need."""
    heavy = ["click", "rich", "matplotlib", "scapy", "dpkt", "Cython", "overlay.cli"]
    code = f"import sys, overlay; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr


def c_files() -> list[Path]:
    return [p for p in sorted(CSRC.rglob("*.[ch]")) if p.parent.name != "fuzz"]


def test_c_includes_go_down() -> None:
    wrong = []
    for path in c_files():
        floor = floor_of(C_FLOORS, path.stem)
        for included in re.findall(r'^#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE):
            own = path.suffix == ".c" and included == f"{path.stem}.h"
            if not own and floor_of(C_FLOORS, Path(included).stem) >= floor:
                wrong.append(f"{path.name} includes {included}")
    assert not wrong


def test_c_core_makes_no_system_calls_and_knows_no_python() -> None:
    wrong = []
    for path in c_files():
        if path.parent.name == "io":
            continue
        for included in re.findall(r"^#\s*include\s+<([^>]+)>", path.read_text(), re.MULTILINE):
            if included not in C_SYSTEM_HEADERS:
                wrong.append(f"{path.name} includes <{included}>")  # noqa: PERF401
    assert not wrong

"""Table: the columns of a capture's packets as a Parquet or CSV file.

What must not live here: what the columns say (:mod:`.columns`).
"""

from __future__ import annotations

import csv
import io
import os
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay.columns import Columns, Fact
from overlay.errors import ConfigError, Status
from overlay.tunnel import PROTOCOLS

from .target import Target

__all__ = ["SUFFIXES", "TableWriter"]

#: How the names of tables end.
SUFFIXES = (".parquet", ".csv")

#: Rows of a Parquet row group: packets are kept until there are so many.
_GROUP = 1 << 18

_NAMES = {kind.number: name for name, kind in PROTOCOLS.items()}
# Words by number; what is beyond them has none.
_STATUS = [status.name for status in Status]
_PROTOCOL = [_NAMES.get(number, "") for number in range(max(_NAMES) + 1)]

#: The columns of a table and their types, as pyarrow calls them.
SCHEMA = {
    "number": "uint64", "time": "timestamp", "status": "words", "protocol": "words",
    "key": "uint64", "source": "words", "destination": "words", "source_port": "uint16",
    "destination_port": "uint16", "ip_protocol": "uint8", "ttl": "uint8", "dscp": "uint8",
    "ecn": "uint8", "ip_id": "uint16", "flow_label": "uint32", "outer_vlan": "uint16",
    "df": "bool", "fragment": "bool", "interface": "uint32", "length": "uint32",
    "wire": "uint32", "frame_length": "uint32", "frame_wire": "uint32",
}  # fmt: skip

#: Values, and where they are not there (None: they all are).
Column = tuple[npt.NDArray[Any], "npt.NDArray[np.bool_] | None"]


def _columns(c: Columns) -> dict[str, Column]:
    """What a table has of each packet; words are numbers here."""
    no_ip, no_key = c.family == 0, c.protocol == 0
    v4, v6 = c.family == 4, c.family == 6
    portless = no_ip | ~np.isin(c.ip_protocol, (6, 17)) | (c.flags & Fact.FRAGMENT != 0)
    untagged = c.flags & Fact.TAGGED == 0
    frameless = c.status != Status.OK
    return {
        "number": (c.number, None),
        "time": (c.time, None),
        "status": (c.status, None),
        "protocol": (c.protocol, no_key),
        "key": (c.key, no_key),
        "source": (c.addresses("source"), no_ip),
        "destination": (c.addresses("destination"), no_ip),
        "source_port": (c.source_port, portless),
        "destination_port": (c.destination_port, portless),
        "ip_protocol": (c.ip_protocol, no_ip),
        "ttl": (c.ttl, no_ip),
        "dscp": (c.tos >> 2, no_ip),
        "ecn": (c.tos & 3, no_ip),
        "ip_id": (c.ip_id, ~v4),
        "flow_label": (c.flow_label, ~v6),
        "outer_vlan": (c.outer_tci & 0x0FFF, untagged),
        "df": (c.flags & Fact.DF != 0, ~v4),
        "fragment": (c.flags & Fact.FRAGMENT != 0, no_ip),
        "interface": (c.interface, None),
        "length": (c.length, None),
        "wire": (c.wire, None),
        "frame_length": (c.frame_length, frameless),
        "frame_wire": (c.frame_wire, frameless),
    }


class TableWriter:
    """Writes the columns of packets to a file, which takes its name when it is whole.

    As a context manager it finishes the file, or leaves nothing behind when an
    exception passes.

    :param path: ends in ``.parquet`` (which needs pyarrow, the extra ``arrow``) or ``.csv``.
    :raises ConfigError: it does not, or pyarrow is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        self.rows = 0
        self._parts: list[Columns] = []
        self._kept = 0
        self._parquet: Any = None
        if not name.lower().endswith(SUFFIXES):
            raise ConfigError("columns", name, "a name that ends in " + " or ".join(SUFFIXES))
        try:
            import pyarrow
        except ImportError:
            pyarrow = None
        self._arrow: Any = pyarrow
        csv_file = name.lower().endswith(".csv")
        if not csv_file and pyarrow is None:
            raise ConfigError(
                "columns", name, "a .csv, or pyarrow: pip install 'overlay-dataplane[arrow]'"
            )
        self._target = Target(path)
        self._sink = _Sink(self._target)
        if csv_file:
            self._target.write((",".join(SCHEMA) + "\n").encode())
        else:
            import pyarrow.parquet

            sink = pyarrow.PythonFile(self._sink, mode="w")
            self._parquet = pyarrow.parquet.ParquetWriter(sink, self._schema(), compression="zstd")

    def write(self, columns: Columns) -> None:
        """Add these packets: what :func:`~overlay.io.columns.read_columns` gives."""
        if not len(columns):
            return
        self.rows += len(columns)
        if self._parquet is None:
            table = _columns(columns)
            self._target.write(self._csv(table) if self._arrow is None else self._arrow_csv(table))
            return
        self._parts.append(columns.copy())
        self._kept += len(columns)
        if self._kept >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            whole = self._parts[0].concatenate(self._parts)
            self._parquet.write_table(self._table(_columns(whole), dictionaries=True))
            self._parts, self._kept = [], 0

    # -- pyarrow -----------------------------------------------------------------

    def _type(self, kind: str) -> Any:
        pa = self._arrow
        if kind == "words":
            return pa.dictionary(pa.int32(), pa.string())
        if kind == "timestamp":
            return pa.timestamp("ns", tz="UTC")
        return pa.bool_() if kind == "bool" else getattr(pa, kind)()

    def _schema(self) -> Any:
        return self._arrow.schema([(name, self._type(kind)) for name, kind in SCHEMA.items()])

    def _table(self, table: dict[str, Column], *, dictionaries: bool) -> Any:
        pa, arrays = self._arrow, {}
        for name, (values, absent) in table.items():
            if SCHEMA[name] != "words":
                kind = self._type(SCHEMA[name])
                if name == "time" and not dictionaries:
                    kind = pa.timestamp("ns")
                arrays[name] = pa.array(values, kind, mask=absent)
                continue
            if values.dtype == np.object_:
                text = pa.array(values, pa.string(), mask=absent)
                arrays[name] = text.dictionary_encode() if dictionaries else text
                continue
            words = pa.array(_words(name), pa.string())
            numbers = pa.array(values.astype(np.int32), mask=absent)
            array = pa.DictionaryArray.from_arrays(numbers, words)
            arrays[name] = array if dictionaries else array.cast(pa.string())
        made = pa.table(arrays)
        return made.cast(self._schema()) if dictionaries else made

    def _arrow_csv(self, table: dict[str, Column]) -> memoryview:
        import pyarrow.csv

        sink = self._arrow.BufferOutputStream()
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
        pyarrow.csv.write_csv(self._table(table, dictionaries=False), sink, options)
        return memoryview(sink.getvalue())

    # -- without it --------------------------------------------------------------

    @staticmethod
    def _csv(table: dict[str, Column]) -> bytes:
        texts = []
        for name, (values, absent) in table.items():
            if name == "time":
                text: Any = np.char.replace(np.datetime_as_string(values.view("M8[ns]")), "T", " ")
            elif SCHEMA[name] == "words" and values.dtype != np.object_:
                text = np.array(_words(name), np.object_)[values]
            elif SCHEMA[name] == "bool":
                text = np.where(values, "true", "false")
            else:
                text = values.astype(np.object_)
            texts.append(text if absent is None else np.where(absent, "", text))
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\n").writerows(zip(*map(list, texts), strict=True))
        return out.getvalue().encode()

    # -- the end -----------------------------------------------------------------

    def close(self) -> None:
        """Finish: the file takes its name."""
        try:
            if self._parquet is not None:
                self._flush()
                self._parquet.close()
        except BaseException:
            self.discard()
            raise
        self._target.close()

    def discard(self) -> None:
        """Give up: nothing stays behind."""
        self._sink.given_up = True  # what pyarrow still has goes nowhere
        self._target.discard()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _words(name: str) -> list[str]:
    return _STATUS if name == "status" else _PROTOCOL


class _Sink(io.RawIOBase):
    """A target as the file object that pyarrow asks for."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target
        self.given_up = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data) if self.given_up else self._target.write(data)

    def tell(self) -> int:
        return self._target.bytes

"""Page: a measurement as one HTML file that needs nothing else.

Lives here: markup and bars.  What must not: any figure that is not in the results.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from .meter import Row

__all__ = ["page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, .plot { text-align: left }
.bar { background: #4878a8; height: .7rem; display: inline-block }
.note { color: #666 }
"""


def _cells(tag: str, values: Iterable[object]) -> str:
    return "".join(f"<{tag}>{html.escape(str(value))}</{tag}>" for value in values)


def _table(title: str, rows: list[Row]) -> str:
    top = max(figure.mpps for row in rows for figure in row.figures.values())
    lines = [
        f"<h3>{html.escape(title)}</h3><table><tr>"
        + _cells("th", ("", "ns a packet", "quartiles", "Mpps", "Gbit/s", ""))
        + "</tr>"
    ]
    for row in rows:
        for verb, figure in row.figures.items():
            values = (
                f"{row.contender}, {verb}",
                f"{figure.ns:,.1f}",
                f"{figure.low:,.1f} to {figure.high:,.1f}",
                f"{figure.mpps:.3g}",
                f"{8 * row.mean_size / figure.ns:.3g}",
            )
            width = 240 * figure.mpps / top
            bar = f'<span class="bar" style="width:{width:.0f}px"></span>'
            lines.append(f'<tr>{_cells("td", values)}<td class="plot">{bar}</td></tr>')
    return "\n".join(lines) + "</table>"


def page(rows: list[Row], machine: dict[str, str]) -> str:
    """The page of these results, measured on this machine."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>overlay bench</title><style>{_STYLE}</style><h1>overlay bench</h1>",
        '<p class="note">Medians over rounds in which all took turns; the quartiles say how far '
        "they spread. Single figures of different rows are not exact to more than that.</p>",
        "<table>",
        *(f"<tr>{_cells('td', pair)}</tr>" for pair in machine.items()),
        "</table>",
    ]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row.setting), []).append(row)
    parts += [_table(title, group) for title, group in groups.items()]
    return "\n".join([*parts, "</html>\n"])

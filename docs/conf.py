"""Sphinx configuration, and one directive: ``statuses``, the table of drop reasons."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import overlay

project = "overlay"
author = "The overlay developers"
copyright = "The overlay developers"  # noqa: A001 - Sphinx asks for this name
release = overlay.__version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"overlay {release}"
html_static_path: list[str] = []
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
nitpicky = False


class Statuses(SphinxDirective):
    """A table of every :class:`overlay.Status`: number, name and text."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 8 30 62", ""]
        rows = [("number", "name", "meaning")]
        rows += [(f"{s:d}", f"``{s.name}``", s.text) for s in overlay.Status]
        for row in rows:
            for mark, cell in zip("*  ", row, strict=True):
                lines.append(f"   {mark} - {cell}")
        return self.parse_text_to_nodes("\n".join(StringList(lines, source="statuses")))


def setup(app: Sphinx) -> None:
    app.add_directive("statuses", Statuses)

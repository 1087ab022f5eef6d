"""The directive `example`: a file of the folder `examples`. A notebook comes with its text, outputs and pictures."""

import ast
import json
from pathlib import Path
from typing import Any

from beside import ROOT, python_block
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

LANGUAGES = {".c": "c", ".sbatch": "bash", ".sh": "bash", ".yaml": "yaml"}


class Example(SphinxDirective):
    """A program: its docstring as text, then its code. A file of another kind: its lines."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return text and code."""
        file = self.arguments[0]
        self.env.note_dependency(str(ROOT / file))
        source = (ROOT / file).read_text(encoding="utf-8")
        suffix = Path(file).suffix
        if suffix == ".ipynb":
            return [node for cell in json.loads(source)["cells"] for node in self._cell(cell)]
        if suffix in LANGUAGES:
            block = nodes.literal_block(source, source.rstrip())
            block["language"] = LANGUAGES[suffix]
            return [block]
        tree = ast.parse(source)
        text = self.parse_text_to_nodes(ast.get_docstring(tree) or "")
        body = "\n".join(source.splitlines()[(tree.body[0].end_lineno or 0) :]).strip("\n")
        return [*text, python_block(body)]

    def _cell(self, cell: dict[str, Any]) -> list[nodes.Node]:
        """Return a cell of a notebook. The title of the notebook is left out: the page has its own."""
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            title, _, rest = text.partition("\n")
            return self.parse_text_to_nodes(rest if title.startswith("# ") else text, allow_section_headings=True)
        return [python_block(text), *(node for output in cell["outputs"] for node in _output(output))]


def _output(output: dict[str, Any]) -> list[nodes.Node]:
    """Return what a cell printed, or its picture, inside of the page."""
    if "text" in output:
        printed = "".join(output["text"])
        block = nodes.literal_block(printed, printed.rstrip(), classes=["output"])
        block["language"] = "text"
        return [block]
    picture = "".join(output["data"]["image/png"].split())
    tag = f'<img class="output" alt="Picture made by the code above" src="data:image/png;base64,{picture}">'
    return [nodes.raw("", tag, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("example", Example)
    return {"parallel_read_safe": True}

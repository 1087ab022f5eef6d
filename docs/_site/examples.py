"""The directive `example`: a file of the folder `examples`. A notebook comes with its text, outputs and pictures."""

import ast
import json
import re
from pathlib import Path
from typing import Any

from beside import ROOT, python_block
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

LANGUAGES = {".c": "c", ".cpp": "cpp", ".sbatch": "bash", ".sh": "bash", ".yaml": "yaml"}


class Example(SphinxDirective):
    """A program: its docstring as text, then its code. A file of another kind: its lines."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return text and code."""
        file = self.arguments[0]
        self.env.note_dependency(str(ROOT / file))
        source = (ROOT / file).read_text(encoding="utf-8")
        suffix = Path(file).suffix
        if suffix in LANGUAGES:
            block = nodes.literal_block(source, source.rstrip())
            block["language"] = LANGUAGES[suffix]
            return [block]
        tree = ast.parse(source)
        text = self.parse_text_to_nodes(ast.get_docstring(tree) or "")
        body = "\n".join(source.splitlines()[(tree.body[0].end_lineno or 0) :]).strip("\n")
        return [*text, python_block(body)]


def insert_notebooks(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the directive of a notebook by the notebook as Markdown: its headings become those of the page."""

    def markdown(found: re.Match[str]) -> str:
        app.env.note_dependency(str(ROOT / found[1]), docname=page)
        cells = json.loads((ROOT / found[1]).read_text(encoding="utf-8"))["cells"]
        return "\n\n".join(part for cell in cells for part in _cell(cell))

    source[0] = re.sub(r"^```\{example\} (\S+\.ipynb)\n```$", markdown, source[0], flags=re.M)


def _cell(cell: dict[str, Any]) -> list[str]:
    """Return a cell of a notebook. The title of the notebook is left out: the page has its own."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [re.sub(r"\A# .*\n", "", text)]
    return [f"```python\n{text}\n```", *map(_output, cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    """Return what a cell printed, or its picture, inside of the page."""
    if "text" in output:
        return f"```{{code-block}} text\n:class: output\n\n{''.join(output['text'])}```"
    picture = "".join(output["data"]["image/png"].split())
    tag = f'<img class="output" alt="Picture made by the code above" src="data:image/png;base64,{picture}">'
    return f"<div>{tag}</div>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and the handler of notebooks."""
    app.add_directive("example", Example)
    app.connect("source-read", insert_notebooks)
    return {"parallel_read_safe": True}

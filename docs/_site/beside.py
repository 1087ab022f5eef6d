"""Directives of the annotated pages: text beside lines of source, and blocks that run.

The lines come from the source when the page is built. A page cannot show code that is no longer there: an anchor that
is missing, or found twice, is an error of the build.

    :::{beside} src/mappo/functional/returns.py
    :of: gae
    :from: delta = reward
    :to: delta = reward
    The text on the left.
    :::

`from` and `to` are the beginnings of lines, without their indentation. `of` names the function or class with these
lines. Without `to` a single line is shown; without `from` the body of `of`, its docstring left out.
"""

import ast
import contextlib
import io
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


def find_lines(source: str, of: str = "", first: str = "", last: str = "") -> tuple[int, int]:
    """Return the first and the last line, counted from 1.

    Raises:
        ValueError: an anchor is not in the source, or is there twice.
    """
    lines = source.splitlines()
    start, end = 1, len(lines)
    if of:
        node = _find_definition(ast.parse(source), of)
        start, end = node.lineno, node.end_lineno or node.lineno
        if not first:
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            return body[0].lineno, end
    if not first:
        return start, end
    found = [n for n in range(start, end + 1) if lines[n - 1].strip().startswith(first)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} lines begin with {first!r}")
    if not last:
        return found[0], found[0]
    ends = [n for n in range(found[0], end + 1) if lines[n - 1].strip().startswith(last)]
    if not ends:
        raise ValueError(f"no line after {first!r} begins with {last!r}")
    return found[0], ends[0]


def _find_definition(tree: ast.AST, name: str) -> Any:
    """Return the function or class of a dotted name."""
    node: Any = tree
    for part in name.split("."):
        found = [x for x in node.body if isinstance(x, ast.FunctionDef | ast.ClassDef) and x.name == part]
        if len(found) != 1:
            raise ValueError(f"{len(found)} definitions are named {name!r}")
        node = found[0]
    return node


def run_block(code: str, names: dict[str, Any]) -> str:
    """Run a block of Python, with the names of the blocks before; return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), names)
    return printed.getvalue()


class Beside(SphinxDirective):
    """Text on the left, lines of a file on the right."""

    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(("of", "from", "to"), directives.unchanged_required)

    def run(self) -> list[nodes.Node]:
        """Return the two columns."""
        file = self.arguments[0]
        self.env.note_dependency(str(ROOT / file))
        source = (ROOT / file).read_text(encoding="utf-8")
        try:
            first, last = find_lines(source, *(self.options.get(name, "") for name in ("of", "from", "to")))
        except ValueError as error:
            raise self.error(f"{file}: {error}") from error
        self.env.metadata[self.env.docname].setdefault("beside", []).append((file, first, last))
        text = nodes.container(classes=["beside-text"])
        text += self.parse_content_to_nodes()
        lines = source.splitlines()[first - 1 : last]
        code = python_block(textwrap.dedent("\n".join(lines)))
        code["linenos"] = True
        # A span for each line: a long line is wrapped with an indent.
        code["highlight_args"] = {"linenostart": first, "linespans": f"{self.env.docname}-{self.lineno}-line"}
        right = nodes.container(classes=["beside-code"])
        name = " · ".join(filter(None, [file.removeprefix("src/"), self.options.get("of", "")]))
        right += [nodes.paragraph("", name, classes=["source"]), code]
        row = nodes.container(classes=["beside"])
        row += [text, right]
        return [row]


class Run(SphinxDirective):
    """A block of Python, run when the page is built, and its output. A page's blocks share their names."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the block and its output."""
        code = "\n".join(self.content)
        names = self.env.temp_data.setdefault("names of blocks", {"__name__": "page"})
        try:
            printed = run_block(code, names)
        except Exception as error:
            raise self.error(f"the block failed: {type(error).__name__} {error}") from error
        if not printed:
            return [python_block(code)]
        output = nodes.literal_block(printed, printed.rstrip(), classes=["output"])
        output["language"] = "text"
        return [python_block(code), output]


def python_block(code: str) -> nodes.literal_block:
    """Return a block of Python."""
    block = nodes.literal_block(code, code)
    block["language"] = "python"
    return block


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("beside", Beside)
    app.add_directive("run", Run)
    return {"parallel_read_safe": False}

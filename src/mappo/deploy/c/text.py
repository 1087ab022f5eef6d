"""Pieces of C text: numbers, names, comments, arrays, and the functions of a file."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import cast

from torch import Tensor

WIDTH = 110


def float_text(x: float) -> str:
    """Return a float32 as a C constant of the same value."""
    if math.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    text = f"{x:.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def array_text(name: str, values: Sequence[float] | Tensor, c_type: str = "float") -> str:
    """Return the definition of a constant array."""
    flat = cast("list[float]", values.flatten().tolist() if isinstance(values, Tensor) else values)
    texts = map(float_text if c_type == "float" else str, flat)
    lines = "\n".join(wrap(", ".join(texts), WIDTH, initial_indent="    ", subsequent_indent="    "))
    return f"static const {c_type} {name}[{len(flat)}] = {{\n{lines}\n}};\n"


def plain_text(line: str) -> str:
    """Return a line for a comment: a user's names, which may hold any character, cannot end the comment."""
    return re.sub(r"[^ -~]|\*/|\?\?", "_", line)


def comment_text(lines: Iterable[str]) -> str:
    """Return a comment of several lines."""
    text = "\n".join(f" * {plain_text(line)}".rstrip() for line in lines)
    return f"/*{text[2:]}\n */\n"


def functions_text(used_in: str) -> str:
    """Return the functions of `layers.c` and `actions.c` that a text calls, and the functions that they call."""
    folder = Path(__file__).parent
    blocks: list[str] = []
    for file in ("layers.c", "actions.c"):
        text = (folder / file).read_text()
        blocks += re.findall(r"^/\*(?:(?!\*/).)*\*/\nstatic .*?^\}\n", text, re.DOTALL | re.MULTILINE)
    functions = ""
    for block in reversed(blocks):  # a function stands behind the functions that it calls
        if re.search(rf"\b{_name(block)}\(", functions + used_in):
            functions = f"{block}\n{functions}"
    return functions.rstrip("\n") + "\n"


def _name(block: str) -> str:
    found = re.search(r"^static [\w *]*?(\w+)\(", block, re.MULTILINE)
    assert found, block
    return found[1]

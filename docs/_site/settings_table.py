"""The directive `settings`: all settings of a section with default, range, meaning and paper, from the code."""

import ast
import dataclasses
import html
import inspect
import itertools
import re
import textwrap
import typing
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mappo.config import EnvConfig, NetworkConfig, PPOConfig, RunConfig

SECTIONS: dict[str, type] = {"env": EnvConfig, "network": NetworkConfig, "ppo": PPOConfig, "run": RunConfig}


def field_texts(section: type) -> dict[str, str]:
    """Return the text below each field of a dataclass."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    texts: dict[str, str] = {}
    body = typing.cast(ast.ClassDef, definition).body
    for field, text in itertools.pairwise(body):
        is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if is_field and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts


def describe_type(kind: Any) -> str:
    """Describe a type with its bounds: `at least 1`, `one of a, b`, `yes or no`."""
    if typing.get_origin(kind) is typing.Annotated:
        base, *bounds = typing.get_args(kind)
        words = [getattr(b, "words", "") for b in bounds]
        return ", ".join(filter(None, [describe_type(base), *words]))
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    arguments = typing.get_args(kind)
    if type(None) in arguments:
        return describe_type(next(a for a in arguments if a is not type(None))) + ", or none"
    if typing.get_origin(kind) is tuple:
        return f"list of: {describe_type(arguments[0])}"
    return {int: "whole number", float: "number", bool: "yes or no", str: "text"}.get(kind, str(kind))


class Settings(SphinxDirective):
    """A table of a section's settings."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        name = self.arguments[0]
        section = SECTIONS[name]
        texts = field_texts(section)
        hints = typing.get_type_hints(section, include_extras=True)
        rows = ["| option | default | values | meaning |", "|---|---|---|---|"]
        for field in dataclasses.fields(section):
            option = f"`--{name}.{field.name.replace('_', '-')}`"
            default = field.default_factory() if field.default is dataclasses.MISSING else field.default
            cells = (option, _show(default), describe_type(hints[field.name]), _link(texts.get(field.name, "")))
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        [table] = self.parse_text_to_nodes("\n".join(rows))
        table["classes"].append("settings")  # pyright: ignore
        return [table]


def _show(default: Any) -> str:
    if default is None or default == ():
        return "none"
    text = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"`{text.lower() if isinstance(default, bool) else text}`" if text else "none"


def _link(text: str) -> str:
    """Link the papers, and keep the text from being read as markup."""
    text = re.sub(r"(?<![`\w])--[a-z][\w.-]*\w( (?:env|joint|agent|own|user)\b)?", r"`\g<0>`", text)
    return re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", html.escape(text, quote=False))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}

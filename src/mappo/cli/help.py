"""The --help texts of the commands, made from the dataclasses of `commands`. Loads no torch.

`mappo train ENV --help` shows the settings in `SHORT`, and `--help-all` shows all settings.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import tyro

from mappo.config import Config
from mappo.config.bounds import option_name
from mappo.system.stdio import terminal_width

# Settings of a short help.
SHORT = (
    *("run.total-steps", "run.seed", "run.seeds", "run.name"),
    *("env.num-envs", "network.hidden", "ppo.actor-lr", "ppo.critic-lr", "ppo.gamma", "ppo.entropy-weight"),
)
# Options of several commands, which come last.
_COMMON = ("checkpoint", "allow-code", "json")
Field = dataclasses.Field[Any]
_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "TEXT", bool: "", types.NoneType: "None"}
# Widest text for a reader, and the column where the descriptions begin.
_WIDEST = 100
_COLUMN = 28


@dataclass(frozen=True)
class Option:
    """An option of a command: its words on the command line, its description and its default."""

    name: str
    words: str
    text: str
    default: Any

    def lines(self, width: int, is_short: bool = False) -> list[str]:
        """Return the lines of the option in a help text of this width; a short help has the first line alone."""
        paragraphs = self.text.split("\n")[: 1 if is_short else None]
        if default := _default_text(self.default):
            paragraphs[-1] += f" (default:\N{NO-BREAK SPACE}{default})"
        rows = [row for text in paragraphs for row in wrap(text, width, " " * _COLUMN)]
        first = f"  {self.words}"
        if len(first) + 2 > _COLUMN:
            return [first, *rows]
        return [first.ljust(_COLUMN) + rows[0].lstrip(), *rows[1:]]


def help_text(command: str, kind: type, default: Any, choices: Mapping[str, Sequence[str]], is_all: bool) -> str:
    """Return the help of a command.

    Args:
        command: name of the command.
        kind: dataclass of the command.
        default: values of the options; None for the defaults of `kind`.
        choices: the valid values of options with choices that `kind` does not know, by name.
        is_all: show all settings, where the command has settings; otherwise those in `SHORT`.
    """
    width = min(terminal_width(), _WIDEST)
    places, options, config = _read(kind, default, choices)
    usage = " ".join(["Usage: mappo", command, *(place.words for place in places), "[OPTIONS]"])
    lines = [usage, "", *_paragraphs(inspect.getdoc(kind) or "", width), ""]
    lines += [line for option in [*places, *options] for line in option.lines(width)]
    if config is None:
        return "\n".join(lines)
    values = {section.name: getattr(config, section.name) for section in dataclasses.fields(config)}
    sections = {name: _settings(name, value) for name, value in values.items()}
    if is_all:
        for name, settings in sections.items():
            lines += ["", *wrap(f"{name}: {inspect.getdoc(values[name].__class__)}", width)]
            lines += [line for option in settings for line in option.lines(width)]
        return "\n".join(lines)
    known = {option.name: option for settings in sections.values() for option in settings}
    lines += ["", "The settings of most use:"]
    lines += [line for name in SHORT for line in known[name].lines(width, is_short=True)]
    words = " ".join(place.words if default is None else str(getattr(default, place.name)) for place in places)
    return "\n".join([*lines, "", f"All {len(known)} settings:  mappo {command} {words} --help-all"])


def _read(
    kind: type, default: Any, choices: Mapping[str, Sequence[str]]
) -> tuple[list[Option], list[Option], Config | None]:
    """Return the arguments by place, the options, and the settings if the command has settings."""
    places: list[Option] = []
    options: list[Option] = []
    config: Config | None = None
    for field, hint, text in _fields(kind):
        value = _default(field) if default is None else getattr(default, field.name)
        marks = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
        if isinstance(value, Config):
            config = value
        elif tyro.conf.Positional in marks:
            metavar = next(mark.metavar for mark in marks if hasattr(mark, "metavar"))
            places.append(Option(field.name, metavar, text, None))
        else:
            names = [mark.name for mark in marks if getattr(mark, "name", None)]
            name = (names or [field.name])[0].replace("_", "-")
            words = f"--{name} {_metavar(Literal[tuple(choices[name])] if choices.get(name) else hint)}"
            options.append(Option(name, words.rstrip(), text, value))
    return places, sorted(options, key=lambda option: option.name in _COMMON), config


def _settings(section: str, values: Any) -> list[Option]:
    """Return the settings of a section of a config. Each flag has a negation."""
    settings: list[Option] = []
    for field, hint, text in _fields(values.__class__):
        name = option_name(section, field.name)
        negation = f", --{name.replace('.', '.no-')}" if hint is bool else ""
        value = getattr(values, field.name)
        words = f"--{name} {_metavar(hint, value is not None)}".rstrip() + negation
        settings.append(Option(name, words, text, value))
    return settings


def _default(field: Field) -> Any:
    """Return the default of a field, None for an argument without a default."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _fields(kind: type[Any]) -> list[tuple[Field, Any, str]]:
    """Return the fields of a dataclass, each with its type and with its description, the text below the field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for statement, following in pairwise(getattr(definition, "body", [])):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    # A line of the source that ends within a sentence goes on.
                    texts[name] = re.sub(r"(?<!\.)\n", " ", inspect.cleandoc(text))
                case _:
                    pass
    return [(field, hints[field.name], texts.get(field.name, "")) for field in dataclasses.fields(kind)]


def _metavar(hint: Any, shows_none: bool = False) -> str:
    """Return the word for the value of an option; "" for a flag without a value.

    Args:
        hint: the type.
        shows_none: whether the word names None, where None is a value.
    """
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is Annotated:
        return _metavar(args[0], shows_none)
    if origin is types.UnionType:
        words = [_metavar(arg) for arg in args if arg is not types.NoneType or shows_none]
        return "|".join(words) or "{True,False}"  # a flag that may be None needs a value
    if origin is Literal:
        return "{" + ",".join(map(str, args)) + "}"
    if origin is tuple:
        return f"{_metavar(args[0])} ..."
    return _METAVARS.get(hint, "FILE")


def _default_text(value: Any) -> str:
    """Return a default as typed on the command line; "" for None, whose meaning the description tells, and False."""
    if isinstance(value, tuple):
        return " ".join(map(str, typing.cast("tuple[Any, ...]", value)))
    return "" if value is None or value is False else str(value)


def _paragraphs(text: str, width: int) -> list[str]:
    """Return a text of several paragraphs, wrapped."""
    return [row for part in text.split("\n\n") for row in ["", *wrap(part, width)]][1:]


def wrap(text: str, width: int, first: str = "") -> list[str]:
    """Return the lines of a paragraph behind its first words, all indented alike; no word is broken."""
    options: Any = {"break_long_words": False, "break_on_hyphens": False}
    rows = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * len(first), **options)
    return [row.replace("\N{NO-BREAK SPACE}", " ") for row in rows]

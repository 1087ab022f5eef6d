"""Files of settings, in JSON or YAML. Imports no torch.

`mappo train --config` and `mappo sweep` read their files by `read_settings`.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any

from mappo.system.safe_read import MAX_JSON, MAX_YAML, parse_json, quote, read_text

# Plain words of YAML 1.2 with a meaning; PyYAML's own rules (YAML 1.1) read 1e-4 as a text and no as False.
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read_settings(file: Path) -> Any:
    """Return the content of a file: YAML if its name ends in .yaml or .yml, else JSON.

    Raises:
        OSError, ValueError: the file cannot be read, or is not strict JSON or YAML.
    """
    if file.suffix.lower() in (".yaml", ".yml"):
        return _parse_yaml(read_text(file, MAX_YAML))
    try:
        return parse_json(read_text(file, MAX_JSON))
    except json.JSONDecodeError as error:
        hint = "" if file.suffix.lower() == ".json" else "; the name of a YAML file ends in .yaml"
        raise ValueError(f"not valid JSON in line {error.lineno}: {error.msg}{hint}") from None


def _parse_yaml(text: str) -> Any:
    """Parse YAML strictly: duplicate names, aliases and further documents are errors, and tags have no effect."""
    yaml = importlib.import_module("yaml")  # without stubs for pyright
    try:
        return _to_python(yaml.compose(text, Loader=yaml.SafeLoader), set())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}"
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ValueError(f"not valid YAML{where}: {quote(reason)}") from None
    except RecursionError:
        raise ValueError("the YAML is nested too deeply") from None


def _to_python(node: Any, visited: set[int]) -> Any:
    """Return a node of a YAML document as Python's types."""
    if node is None:  # an empty document
        return None
    line = node.start_mark.line + 1
    if id(node) in visited:  # a few nested aliases make gigabytes
        raise ValueError(f"line {line} is used twice by an alias, and aliases are not supported: write it twice")
    visited.add(id(node))
    if node.id == "scalar":
        return _plain(node.value) if node.style is None else node.value
    if node.id == "sequence":
        return [_to_python(item, visited) for item in node.value]
    found: dict[str, Any] = {}
    for key, value in node.value:
        if key.id != "scalar" or key.value in found:
            problem = "is given twice" if key.id == "scalar" else "must be a text"
            raise ValueError(f"the name in line {key.start_mark.line + 1} {problem}")
        found[key.value] = _to_python(value, visited)
    return found


def _plain(text: str) -> Any:
    """Return the value of a word without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) < 40 and _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text

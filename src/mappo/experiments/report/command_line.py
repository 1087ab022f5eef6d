"""The command, or the line of Python, that repeats a run. Loads no torch."""

import dataclasses
import shlex
from typing import Any

from mappo.config import Config
from mappo.config.bounds import option_name
from mappo.envs.names import CUSTOM, nearest_preset
from mappo.errors import UserError

# Settings of the directory and the display of a run.
_APART = {("run", name) for name in ("name", "dir", "exists", "progress", "track")}


def changed_settings(env: str, config: Config) -> tuple[str, list[tuple[str, str, Any, Any]]]:
    """Return the preset with the fewest differences, "" for the general defaults, and the differences.

    A difference is section, name, value and the preset's value. An environment that is unknown here has no preset.
    """
    try:
        preset, base = nearest_preset(env, config, _APART)
    except UserError:
        preset = ""
        base = Config()
    theirs = base.to_dict()
    changes = [
        (section, name, value, theirs[section][name])
        for section, options in config.to_dict().items()
        for name, value in options.items()
        if value != theirs[section][name] and (section, name) not in _APART
    ]
    return preset, changes


def repeat_command(env: str, config: Config) -> str:
    """Return the command that trains with these settings, in a new directory; Python for an environment's object."""
    preset, changes = changed_settings(env, config)
    if env.startswith(CUSTOM):
        settings = ", ".join(f'"{section}.{name}": {value!r}' for section, name, value, _ in changes)
        return f"mappo.train(make_env, {{{settings}}})  # make_env: the function or object {env.removeprefix(CUSTOM)}"
    words = ["mappo", "train", env]
    words += ["--preset", preset] if preset not in ("", "default") else []
    for section, name, value, _ in changes:
        is_flag = _field_type(getattr(config, section), name) is bool
        words += _flag(section, name, value) if is_flag else _option(section, name, value)
    return shlex.join(words)


def _field_type(settings: Any, name: str) -> Any:
    return next(field.type for field in dataclasses.fields(settings) if field.name == name)


def _flag(section: str, name: str, is_on: bool) -> list[str]:
    return [f"--{option_name(section, name if is_on else f'no-{name}')}"]


def _option(section: str, name: str, value: Any) -> list[str]:
    """Return the words of a setting on the command line."""
    option = f"--{option_name(section, name)}"
    if isinstance(value, list | tuple):
        return [option, *map(str, value)]  # pyright: ignore[reportUnknownArgumentType]
    return [option, str(value)]

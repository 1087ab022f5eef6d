"""From the words of a command line to a command of `commands`, with the defaults of its environment. Loads no torch."""

import io
import re
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import tyro

from mappo._version import __version__
from mappo.cli.commands import COMMANDS, Sweep, Train
from mappo.cli.help import help_text, wrap
from mappo.config import Config
from mappo.config.files import read_settings
from mappo.config.presets import presets_of
from mappo.core.user_code import check_code
from mappo.envs import FAMILIES, NATIVE, NATIVE_FAMILIES, preset
from mappo.errors import UserError, suggest
from mappo.system.files import error_text
from mappo.system.stdio import terminal_width

HELP = {"-h", "--help", "--help-all"}


def parse(args: list[str]) -> Any:
    """Return the command as a dataclass of `commands`.

    Args:
        args: words of the command line, without the name of the program.

    Raises:
        UserError: there is no such command, environment or preset.
        SystemExit: tyro printed its help, or an error.
    """
    command = args[0] if args else "--help"
    rest = args[1:]
    if command in HELP:
        _print_commands()
        raise SystemExit(0)
    if command == "--version":
        print(f"mappo {__version__}")
        raise SystemExit(0)
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}{suggest(command, COMMANDS)} There are: {', '.join(COMMANDS)}")
    default = _defaults(command, rest) if command in ("train", "sweep") else None
    if not HELP.isdisjoint(rest):
        choices = {} if default is None else {"preset": list(presets_of(default.env))}
        print(help_text(command, COMMANDS[command], default, choices, "--help-all" in rest))
        raise SystemExit(0)
    parsed = _read_words(command, rest, default)
    if default is not None:  # a name that was not typed comes from the file
        names = [name for name in parsed.config.named_code if not any(name in word for word in rest)]
        check_code(names, parsed.allow_code, f"--config {parsed.settings}")
    return parsed


def _read_words(command: str, args: list[str], default: Any) -> Any:
    """Return the command that tyro makes of the words.

    Raises:
        UserError: a value is not valid for a dataclass; its settings are named as they are typed.
        SystemExit: tyro printed an error.
    """
    read: Any = partial(tyro.cli, COMMANDS[command], prog=f"mappo {command}", args=args, default=default)
    try:
        with redirect_stderr(io.StringIO()):
            return read()
    except SystemExit as stop:
        cause: BaseException | None = stop
        while cause is not None:
            if isinstance(cause, UserError):
                raise UserError(re.sub(r"(?<![\w.-])((env|network|ppo|run)\.[\w-]+)", r"--\1", str(cause))) from None
            cause = cause.__context__
    return read()  # prints the error


def _defaults(command: str, args: list[str]) -> Train | Sweep | None:
    """Return the defaults of the options: they depend on ENV, --preset and --config; None without ENV."""
    if not args or args[0] in HELP:
        return None
    env = args[0]
    if env.startswith("-"):
        raise UserError(f"the environment comes first, as in: mappo {command} spread {env} ...")
    name = _peek(args, "--preset")
    file = _peek(args, "--config")
    if name is not None and file is not None:
        raise UserError("--preset and --config exclude each other: give one")
    config = preset(env, name or "default")  # loads no torch: a typo gets its message at once
    path = None if file is None else Path(file)
    if path is not None:
        config = _read_config(path, config)
    if command == "train":
        return Train(env=env, config=config, preset=name, settings=path)
    if len(args) < 2 or (args[1].startswith("-") and args[1] not in HELP):
        raise UserError(f"the file of the space comes second, as in: mappo sweep {env} space.yaml ...")
    return Sweep(env=env, space=Path(args[1]), config=config, preset=name, settings=path)


def _peek(args: list[str], option: str) -> str | None:
    """Return the value of an option ahead of the parser, None if the option is missing."""
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None


def _read_config(file: Path, base: Config) -> Config:
    """Return the settings of a JSON or YAML file, over the settings of `base`.

    Raises:
        UserError: the file cannot be read, or holds invalid settings.
    """
    try:
        data: Any = read_settings(file)
    except (OSError, ValueError) as error:
        raise UserError(f"--config {file}: {error_text(error)}") from None
    if isinstance(data, dict) and "config" in data:  # the config.json of a run
        data = cast(Any, data)["config"]
    if not isinstance(data, dict):
        raise UserError(f"--config {file}: expected an object with env, network, ppo, run")
    try:
        config = Config.from_dict(cast(dict[str, Any], data), base)
    except UserError as error:
        raise UserError(f"--config {file}: {error}") from None
    # Another run's file gives its settings, not its directory.
    return replace(config, run=replace(config.run, name=None, dir=None))


def _print_commands() -> None:
    """Print the help of the program."""
    width = min(terminal_width(), 100)
    print("Usage: mappo COMMAND ...\n\nCooperative multi-agent reinforcement learning with MAPPO.\n")
    for name, kind in COMMANDS.items():
        print(*wrap((kind.__doc__ or "").splitlines()[0], width, f"  {name:<11}"), sep="\n")
    native = [name for name in NATIVE if not name.startswith("probe/")]
    families = [f"{family}/..." for family in NATIVE_FAMILIES | FAMILIES]
    names = ", ".join([*native, "probe/...", *families, "module:function"])
    print("\nEnvironments (see `mappo envs`):", *wrap(names, width, "  "), sep="\n")
    print("\nStart with:       mappo train spread\nSettings:         mappo train spread --help")

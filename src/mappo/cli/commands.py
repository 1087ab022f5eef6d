"""The commands and their options, as dataclasses that tyro turns into a command line. Loads no torch."""

import textwrap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from mappo._version import __version__
from mappo.config import Config
from mappo.config.bounds import at_least, at_most
from mappo.config.presets import preset
from mappo.envs import FAMILIES, NATIVE, check_name
from mappo.errors import UserError, suggest
from mappo.system.safe_read import MAX_JSON, parse_json, read_text

Which = Literal["last", "best"]


@dataclass(frozen=True)
class Train:
    """Train a team, score it, and draw its learning curve and a replay.

    Settings: the environment's default preset, then --preset or --config, then what is given here.
    """

    env: Annotated[str, tyro.conf.arg(metavar="ENV"), tyro.conf.Positional]
    """The environment, such as spread."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str | None = None
    """Settings known to learn, such as long; see the README."""
    settings: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """A JSON file of settings, such as the config.json of another run."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with the run that --run.name or --run.dir names."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run from its last checkpoint."""

    run: Annotated[Path, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """The run directory."""
    allow_code: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the function that the run's config.json names as its environment."""
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    """What is shown: auto is live on a terminal, else plain lines."""
    time_limit: float | None = None
    """Minutes after which it is saved and left again, 0 for none; by default as in config.json."""


@dataclass(frozen=True)
class Evaluate:
    """Score a run against the baselines of its environment, on the same games."""

    run: Annotated[Path, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """The run directory."""
    episodes: int = 320
    """How many games."""
    on: str | None = None
    """Play on the original package, such as mpe2."""
    checkpoint: Which = "last"
    """Which policy: the last one, or the best by its evaluations."""
    sampled: tyro.conf.FlagCreatePairsOff[bool] = False
    """Draw actions from the policy, in place of the likeliest."""
    workers: int | None = None
    """Processes that step environments in Python; by default as in training."""
    allow_code: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the function that the run's config.json names as its environment."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object and nothing else."""


@dataclass(frozen=True)
class Play:
    """Draw games of a run's policy into its replay.gif."""

    run: Annotated[Path, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """The run directory."""
    episodes: int = 4
    """How many games."""
    seed: int = 1_000_000
    """Of the first game's reset; the next games count up."""
    checkpoint: Which = "last"
    """Which policy: the last one, or the best by its evaluations."""
    allow_code: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the function that the run's config.json names as its environment."""


@dataclass(frozen=True)
class Check:
    """Step an environment with random actions, and name what is wrong with it."""

    env: Annotated[str, tyro.conf.arg(metavar="ENV"), tyro.conf.Positional]
    """The environment, such as my_module:make_env."""
    episodes: int = 3
    """How many; more are played where these are too short to be timed."""
    seed: int = 0
    """Of the first reset; the others count up."""
    time_limit: int | None = None
    """Steps after which an episode is cut off, as by --env.time-limit in training."""
    options: tuple[str, ...] = ()
    """The environment's own, as NAME=VALUE."""


@dataclass(frozen=True)
class Envs:
    """List the environments: what is installed, and what could be."""

    family: Annotated[str | None, tyro.conf.arg(metavar="FAMILY"), tyro.conf.Positional] = None
    """All names of one of them, such as mpe2."""


@dataclass(frozen=True)
class Bench:
    """Measure how fast this machine trains, as tables to paste into an issue."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes cuda where there is one."""
    num_envs: int = 128
    """Environments stepped side by side; 128 are the reference."""
    threads: int = 1
    """CPU threads."""
    rounds: int = 5
    """Turns of each part; a figure is the median over them."""

    def __post_init__(self) -> None:
        for name, most in (("num_envs", 1_000_000), ("threads", 1024), ("rounds", 1000)):
            told = f"--{name.replace('_', '-')}"
            at_least(told, getattr(self, name), 1)
            at_most(told, getattr(self, name), most)


COMMANDS: dict[str, type] = {
    "train": Train,
    "resume": Resume,
    "evaluate": Evaluate,
    "play": Play,
    "check": Check,
    "envs": Envs,
    "bench": Bench,
}


def parse(args: list[str]) -> Any:
    """The command as one of the dataclasses above.

    Raises:
        UserError: no such command, environment or preset. SystemExit: tyro printed its help, or what is wrong.
    """
    command, rest = (args or ["--help"])[0], args[1:]
    if command in ("-h", "--help"):
        _print_commands()
        raise SystemExit(0)
    if command == "--version":
        print(f"mappo {__version__}")
        raise SystemExit(0)
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}{suggest(command, COMMANDS)} There are: {', '.join(COMMANDS)}")
    default = _train_defaults(rest) if command == "train" else None
    # Tuples and flags read as they do elsewhere; a value that a dataclass refuses is a box, not a traceback.
    return tyro.cli(COMMANDS[command], prog=f"mappo {command}", args=rest, default=default)


def _train_defaults(args: list[str]) -> Train | None:
    """What options start from: it depends on ENV, --preset and --config, which are read ahead of the rest."""
    if not args or args[0] in ("-h", "--help"):
        return None
    env = args[0]
    if env.startswith("-"):
        raise UserError(f"the environment comes first, as in: mappo train spread {env} ...")
    check_name(env)  # before torch is loaded
    name, file = _peek(args, "--preset"), _peek(args, "--config")
    if name is not None and file is not None:
        raise UserError("--preset and --config exclude each other: give one")
    config = preset(env, name or "default")
    if file is not None:
        config = _read_config(Path(file), config)
    return Train(env, config, name, None if file is None else Path(file))


def _peek(args: list[str], option: str) -> str | None:
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None


def _read_config(file: Path, base: Config) -> Config:
    try:
        data: Any = parse_json(read_text(file, MAX_JSON))
    except (OSError, ValueError) as error:
        raise UserError(f"--config {file}: {error}") from None
    if isinstance(data, dict) and "config" in data:  # the config.json of a run: its settings, not its place
        data = cast(Any, data)["config"]
    if not isinstance(data, dict):
        raise UserError(f"--config {file}: expected an object with env, network, ppo, run")
    try:
        config = Config.from_dict(cast(dict[str, Any], data), base)
    except UserError as error:
        raise UserError(f"--config {file}: {error}") from None
    return replace(config, run=replace(config.run, name=None, dir=None))


def _print_commands() -> None:
    print("Usage: mappo COMMAND ...\n\nCooperative multi-agent reinforcement learning with MAPPO.\n")
    for name, kind in COMMANDS.items():
        print(f"  {name:<10} {(kind.__doc__ or '').splitlines()[0]}")
    own = [name for name in NATIVE if not name.startswith("probe/")]
    names = ", ".join([*own, "probe/...", *(f"{kind}/..." for kind in FAMILIES), "module:function"])
    print(
        "\nEnvironments (`mappo envs` tells more):\n"
        + textwrap.fill(names, 90, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    )
    print("\nStart with:       mappo train spread")
    print("All settings:     mappo train spread --help")

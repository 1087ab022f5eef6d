"""Commands and their options, as dataclasses for tyro to make a command line from. Loads no torch.

The docstrings of classes and fields are the --help texts. `parse` returns the command for `main`.
"""

import textwrap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from mappo._version import __version__
from mappo.config import Config
from mappo.config.bounds import at_least, at_most, coerce
from mappo.envs import FAMILIES, NATIVE, preset
from mappo.errors import UserError, suggest
from mappo.evaluation.options import REPLAY_EPISODES, SCORE_SEED, CheckpointName, EvaluateOptions
from mappo.system.files import error_text
from mappo.system.safe_read import MAX_JSON, parse_json, read_text

RunPath = Annotated[Path, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
EnvName = Annotated[str, tyro.conf.arg(metavar="ENV"), tyro.conf.Positional]
# A flag without its negation, such as --json without --no-json.
Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Train:
    """Train a team, score it, and draw its learning curve and a replay.

    Order of settings: the environment's default preset, then --preset or --config, then the options given here.
    `mappo train ENV --help` shows the defaults of the environment ENV; without ENV the defaults below are general.
    """

    env: EnvName
    """Name of the environment, such as spread."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str | None = None
    """Named settings, such as long; the README lists the presets."""
    settings: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """JSON file of settings, such as the config.json of another run."""
    resume: Flag = False
    """Continue the run of --run.name or --run.dir."""


@dataclass(frozen=True)
class Resume:
    """Continue a run from its last checkpoint."""

    run: RunPath
    """Run directory."""
    allow_code: Flag = False
    """Allow import of the function named as environment in the run's config.json."""
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    """Progress display; auto is live on a terminal, plain lines elsewhere."""
    time_limit: float | None = None
    """Save and stop after this many minutes, 0 for no limit; by default as in config.json."""


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class Evaluate(EvaluateOptions):
    """Score a run against the baselines of its environment, on the same episodes."""

    run: RunPath
    """Run directory."""
    json: bool = False
    """Print a single JSON object and nothing else."""


@dataclass(frozen=True)
class Play:
    """Draw episodes of a run into its replay.gif, with the policy (greedy or sampled) of run.eval-policy."""

    run: RunPath
    """Run directory."""
    episodes: int = REPLAY_EPISODES
    """Number of episodes, 1 to 100."""
    seed: int = SCORE_SEED
    """Reset seed of the first episode; further episodes count up."""
    checkpoint: CheckpointName = "last"
    """Checkpoint of the policy: last, or best by the evaluations during training."""
    allow_code: Flag = False
    """Allow import of the function named as environment in the run's config.json."""


@dataclass(frozen=True)
class Check:
    """Step an environment with random actions, and report its errors."""

    env: EnvName
    """Name of the environment, such as my_module:make_env."""
    episodes: int = 3
    """Number of episodes; more are run if these are too short to be timed."""
    seed: int = 0
    """Seed of the first reset; further resets count up."""
    time_limit: int | None = None
    """Steps before an episode is cut off, like --env.time-limit in training."""
    options: tuple[str, ...] = ()
    """Options of the environment, as NAME=VALUE."""


@dataclass(frozen=True)
class Envs:
    """List the environments, installed and available."""

    family: Annotated[str | None, tyro.conf.arg(metavar="[FAMILY]"), tyro.conf.Positional] = None
    """Family, such as mpe2: list its names. By default all environments are listed."""


@dataclass(frozen=True)
class Bench:
    """Measure how fast this machine trains, as tables to paste into an issue."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to measure; auto takes cuda if present."""
    num_envs: int = 128
    """Environments stepped side by side; 128 are the reference."""
    threads: int = 1
    """CPU threads."""
    rounds: int = 5
    """Rounds of measurements; each figure is the median over the rounds."""

    def __post_init__(self) -> None:
        for name, most in (("num_envs", 1_000_000), ("threads", 1024), ("rounds", 1000)):
            option = f"--{name.replace('_', '-')}"
            coerce(option, getattr(self, name), Annotated[int, at_least(1), at_most(most)])


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
    """Return the command as a dataclass from above.

    Args:
        args: words of the command line, without the name of the program.

    Raises:
        UserError: there is no such command, environment or preset.
        SystemExit: tyro printed its help, or an error.
    """
    command = args[0] if args else "--help"
    rest = args[1:]
    if command in ("-h", "--help"):
        _print_commands()
        raise SystemExit(0)
    if command == "--version":
        print(f"mappo {__version__}")
        raise SystemExit(0)
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}{suggest(command, COMMANDS)} There are: {', '.join(COMMANDS)}")
    default = _train_defaults(rest) if command == "train" else None
    # tyro shows a ValueError of a dataclass as a box, without a traceback.
    return tyro.cli(COMMANDS[command], prog=f"mappo {command}", args=rest, default=default)


def _train_defaults(args: list[str]) -> Train | None:
    """Return the defaults of the options: they depend on ENV, --preset and --config; None without ENV."""
    if not args or args[0] in ("-h", "--help"):
        return None
    env = args[0]
    if env.startswith("-"):
        raise UserError(f"the environment comes first, as in: mappo train spread {env} ...")
    name = _peek(args, "--preset")
    file = _peek(args, "--config")
    if name is not None and file is not None:
        raise UserError("--preset and --config exclude each other: give one")
    config = preset(env, name or "default")  # loads no torch: a typo gets its message at once
    if file is not None:
        config = _read_config(Path(file), config)
    return Train(env, config, name, None if file is None else Path(file))


def _peek(args: list[str], option: str) -> str | None:
    """Return the value of an option ahead of the parser, None if the option is missing."""
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None


def _read_config(file: Path, base: Config) -> Config:
    """Return the settings of a JSON file, over the settings of `base`.

    Raises:
        UserError: the file cannot be read, or holds invalid settings.
    """
    try:
        data: Any = parse_json(read_text(file, MAX_JSON))
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
    print("Usage: mappo COMMAND ...\n\nCooperative multi-agent reinforcement learning with MAPPO.\n")
    for name, kind in COMMANDS.items():
        print(f"  {name:<10} {(kind.__doc__ or '').splitlines()[0]}")
    native = [name for name in NATIVE if not name.startswith("probe/")]
    names = ", ".join([*native, "probe/...", *(f"{kind}/..." for kind in FAMILIES), "module:function"])
    print(
        "\nEnvironments (see `mappo envs`):\n"
        + textwrap.fill(names, 90, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    )
    print("\nStart with:       mappo train spread")
    print("All settings:     mappo train spread --help")

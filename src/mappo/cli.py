"""The command line. Knows options, messages and exit codes; the work is done below.

Exit codes: 0 done, 2 the user can mend it, 3 stopped and resumable, 130 and 143 for SIGINT and SIGTERM.
"""

import ctypes
import difflib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

import mappo
from mappo.config import Config
from mappo.errors import StopTraining, UserError
from mappo.presets import preset

DONE, MEND, STOPPED = 0, 2, 3
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
    """Go on with a run from its last checkpoint, as if it had never stopped."""

    run: Annotated[Path, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """The run directory."""
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    """What is shown: auto is live on a terminal, else plain lines."""


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


COMMANDS: dict[str, type] = {"train": Train, "resume": Resume, "evaluate": Evaluate, "play": Play}


def entry() -> None:
    """The `mappo` program."""
    sys.exit(main(sys.argv[1:]))


def main(args: Sequence[str]) -> int:
    """Runs one command and returns its exit code; prints one message for what the user can mend."""
    try:
        return _run(_parse(list(args)))
    except UserError as error:
        print(f"mappo: {error}", file=sys.stderr)
        return MEND
    except KeyboardInterrupt:
        print("mappo: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader left, as in `mappo evaluate RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # a full disk, a directory that may not be written
        print(
            f"mappo: {error}; checkpoints saved before are whole: `mappo resume RUN` goes on from there",
            file=sys.stderr,
        )
        return MEND
    except SystemExit as stop:  # tyro has printed its help or its box
        return stop.code if isinstance(stop.code, int) else MEND


def _parse(args: list[str]) -> Any:
    command, rest = (args or ["--help"])[0], args[1:]
    if command in ("-h", "--help"):
        _print_commands()
        raise SystemExit(DONE)
    if command == "--version":
        print(f"mappo {mappo.__version__}")
        raise SystemExit(DONE)
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(f"unknown command {command!r}{hint} There are: {', '.join(COMMANDS)}")
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
    _check_env(env)
    name, file = _peek(args, "--preset"), _peek(args, "--config")
    if name is not None and file is not None:
        raise UserError("--preset and --config exclude each other: give one")
    config = _read_config(Path(file)) if file is not None else preset(env, name or "default")
    return Train(env, config, name, None if file is None else Path(file))


def _check_env(name: str) -> None:
    """Unknown names are told before torch is loaded."""
    from mappo.envs import check_name

    check_name(name)


def _peek(args: list[str], option: str) -> str | None:
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None


def _read_config(file: Path) -> Config:
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--config {file}: {error}") from None
    if isinstance(data, dict) and "config" in data:  # the config.json of a run: its settings, not its place
        data = cast(Any, data)["config"]
    if not isinstance(data, dict):
        raise UserError(f"--config {file}: expected an object with env, network, ppo, run")
    config = Config.from_dict(cast(dict[str, Any], data))
    return replace(config, run=replace(config.run, name=None, dir=None))


def _run(command: Any) -> int:
    if isinstance(command, Train):
        return _train(command.env, command.config, command.resume)
    if isinstance(command, Resume):
        from mappo.rundir import read_run

        env, config, _ = read_run(command.run)
        where = replace(config.run, name=None, dir=str(command.run), progress=command.progress)
        return _train(env, replace(config, run=where), resume=True)
    if isinstance(command, Evaluate):
        return _evaluate(command)
    return _play(command)


def _train(env: str, config: Config, resume: bool) -> int:
    from mappo.trainer import Run, train

    _keep_memory()
    with _Signals() as signals:
        run: Run = train(env, config, callback=signals.check, resume=resume)
    if not run.finished:
        print(f"Stopped at step {run.step:,} and saved.  Go on with:  mappo resume {run.path}")
        return 128 + signals.caught if signals.caught else STOPPED
    _show_result(run)
    return DONE


def _keep_memory() -> None:
    """Tells glibc to keep freed memory: returning a rollout's temporaries to the system and faulting them in again
    takes a fifth of an update (benchmarks/README.md). Elsewhere there is no such function, and nothing to do.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 25)
    except (OSError, TypeError, AttributeError):
        pass


def _show_result(run: Any) -> None:
    """The score, the pictures, and what to type next."""
    from mappo import envs
    from mappo.evaluate import draw_replay

    package = next(iter(envs.ORIGINALS.get(run.env, {})), None)
    try:
        print(f"\nScoring 320 games{f' on the {package} package itself' if package else ''} ...")
        result = run.evaluate(on=package)
    except UserError as error:  # the package is not installed: the batched twin gives the same numbers
        print(f"mappo: {error}; scoring on the built-in {run.env}", file=sys.stderr)
        package, result = None, run.evaluate()
    _print_score(result)
    lines = [("learning curve", run.path / "curve.png")]
    try:
        lines.append(("replay", draw_replay(run.path)))
    except UserError as error:
        print(f"no replay: {error}")
    lines.append(("numbers", run.path / "metrics.csv"))
    print()
    for label, path in lines:
        print(f"  {label:<15} {path}")
    print("\nNext:")
    print(f"  mappo evaluate {run.path}{f' --on {package}' if package else ''} --episodes 2000")
    print(f"  mappo play {run.path} --seed 7")
    print(f"  tensorboard --logdir {run.path.parent}")


def _evaluate(command: Evaluate) -> int:
    from mappo.evaluate import evaluate_run

    result = evaluate_run(
        command.run,
        command.episodes,
        on=command.on,
        which=command.checkpoint,
        sampled=command.sampled,
    )
    if command.json:
        print(json.dumps(result))
    else:
        _print_score(result)
    return DONE


def _print_score(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{result['env']} ({result['package_version']}), {result['episodes']} games, "
        f"{result['policy']} policy, {result['checkpoint']} checkpoint",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("policy")
    for column in ("return, summed", "95 % interval", "this run is ahead by"):
        table.add_column(column, justify="right")
    rows = {"this run": result["return_sum"], **result["baselines"]}
    for name, s in rows.items():
        low, high = s["ci95"]
        ahead = "difference" in s and "{:+.1f}  ({:+.1f} to {:+.1f})".format(
            s["difference"]["mean"], *s["difference"]["ci95"]
        )
        table.add_row(name, f"{s['mean']:.1f}", f"{low:.1f} to {high:.1f}", ahead or "")
    Console().print(table)


def _play(command: Play) -> int:
    from mappo.evaluate import draw_replay

    if command.episodes < 1:
        raise UserError(f"episodes must be at least 1, got {command.episodes}")
    if not 0 <= command.seed < 2**63:
        raise UserError(f"seed must be at least 0 and below 2^63, got {command.seed}")
    print(draw_replay(command.run, command.episodes, command.seed, command.checkpoint))
    return DONE


def _print_commands() -> None:
    print("Usage: mappo COMMAND ...\n\nCooperative multi-agent reinforcement learning with MAPPO.\n")
    for name, kind in COMMANDS.items():
        print(f"  {name:<10} {(kind.__doc__ or '').splitlines()[0]}")
    print("\nStart with:       mappo train spread")
    print("All settings:     mappo train spread --help")


class _Signals:
    """The first Ctrl-C or SIGTERM ends the run after the update under way, and saves; a second leaves at once."""

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, _update: object) -> None:
        """The callback of the run."""
        if self.caught:
            raise StopTraining

    def _catch(self, number: int, _frame: object) -> None:
        if self.caught:
            os._exit(128 + number)
        self.caught = number

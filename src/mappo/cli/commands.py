"""Commands and their options, as dataclasses for tyro to make a command line from. Loads no torch.

The docstrings of classes and fields are the --help texts. `parsing` makes such a dataclass of the command line.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mappo.config import Config
from mappo.config.bounds import at_least, at_most, coerce
from mappo.deploy.formats import FormatName
from mappo.evaluation.options import EvaluateOptions, PolicyOptions, ReplayOptions
from mappo.experiments.compare.options import CompareOptions
from mappo.experiments.report.options import ReportOptions
from mappo.experiments.sweep.options import SweepOptions

RunNames = Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
RunPath = Annotated[Path, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
EnvName = Annotated[str, tyro.conf.arg(metavar="ENV"), tyro.conf.Positional]
# A flag without its negation, such as --json without --no-json.
Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """Settings of the commands that begin runs."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str | None = None
    """Named settings; `mappo envs ENV` shows their scores."""
    settings: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """JSON or YAML file of settings, such as the config.json of another run."""


@dataclass(frozen=True, kw_only=True)
class Train(NewRun):
    """Train a team, score it, and draw its learning curve and a replay.

    Order of settings: the environment's default preset, then --preset or --config, then the options given here.
    `mappo train ENV --help` shows the defaults of the environment ENV; without ENV the defaults below are general.
    """

    env: EnvName
    """Name of the environment, such as spread."""
    resume: Flag = False
    """Short form of --run.exists resume: continue the run of --run.name or --run.dir, or begin it."""
    allow_code: Flag = False
    """Allow import of the code named in the --config file; names typed here are always imported."""


@dataclass(frozen=True)
class Resume:
    """Continue a run from its last checkpoint."""

    run: RunPath
    """Run directory."""
    allow_code: Flag = False
    """Allow import of the code named in the run's config.json, such as an environment module:function."""
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    """Progress display; auto is live on a terminal, plain lines elsewhere."""
    time_limit: float | None = None
    """Save and stop after this many minutes, 0 for no limit; by default as in config.json."""
    total_steps: int | None = None
    """New length of the run, such as twice the length of a complete run; annealing follows the new length."""


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class Evaluate(EvaluateOptions):
    """Score a run against the baselines of its environment, on the same episodes."""

    run: RunPath
    """Run directory."""
    json: bool = False
    """Print a single JSON object and nothing else."""


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class Play(ReplayOptions):
    """Draw episodes of a run, with the policy (greedy or sampled) of run.eval-policy, as GIF or MP4."""

    run: RunPath
    """Run directory."""


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class Export(PolicyOptions):
    """Export the policies of a run's agents to files that run without mappo, and prove each file.

    A folder for each agent holds the files, contract.json (names, shapes, units, checksums) and check.safetensors, the
    inputs and answers of 1,000 steps of real episodes.
    """

    run: Annotated[Path | None, tyro.conf.arg(metavar="[RUN]"), tyro.conf.Positional] = None
    """Run directory, of one seed."""
    agent: str = "all"
    """Name of the agent to export, or all."""
    to: tuple[FormatName, ...] = ("onnx",)
    """Kinds of files."""
    out: Path | None = None
    """Folder of the agents' folders; by default export in the run directory."""
    verify: Path | None = None
    """Folder of exported files to verify, in place of an export."""
    allow_code: bool = False
    """Allow import of the code named in the run's config.json, such as an environment module:function; with --verify
    allow policy.c, policy.pt2 and policy_aoti.pt2 to run."""


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
    """List the environments, or show the agents, spaces, presets and scores of an environment."""

    name: Annotated[str | None, tyro.conf.arg(metavar="[NAME]"), tyro.conf.Positional] = None
    """Environment, such as spread, or family, such as mpe2, to list its names. By default all are listed."""


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


@dataclass(frozen=True, kw_only=True)
class Sweep(NewRun, SweepOptions):
    """Search for the best settings of an environment: many runs, by any number of processes.

    The SPACE file, YAML or JSON, holds the settings to vary. All others are given as for `mappo train`. Start the same
    command again, here or on other machines with the same folder, to join the sweep or to continue it.
    """

    env: EnvName
    """Name of the environment, such as spread."""
    space: Annotated[Path, tyro.conf.arg(metavar="SPACE"), tyro.conf.Positional]
    """File of the settings to vary, such as {"ppo.gamma": [0.9, 0.99]}."""
    allow_code: Flag = False
    """Allow import of the code named in SPACE or in the --config file; names typed here are always imported."""


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class Compare(CompareOptions):
    """Compare runs: statistics over seeds in tables, and a figure.

    Runs with equal settings are a group; its name is made of the settings that differ between groups.
    """

    runs: RunNames = ()
    """Run directories, folders of runs, or patterns such as 'runs/spread-*'; NAME=PATH names a group."""


@dataclass(frozen=True)
class Report(ReportOptions):
    """Write a page about a run, about several runs or about a sweep: one HTML file, which opens offline."""

    runs: RunNames = ()
    """Run directories, folders of runs or of a sweep, or patterns such as 'runs/spread-*'; NAME=PATH names a group."""


@dataclass(frozen=True)
class Runs:
    """List the runs in a folder, with their scores."""

    folder: Annotated[Path, tyro.conf.arg(metavar="[FOLDER]"), tyro.conf.Positional] = Path("runs")
    """Folder of runs; its subfolders count too."""
    json: Flag = False
    """Print a single JSON object and nothing else."""


@dataclass(frozen=True)
class Reproduce:
    """Repeat a published training, and compare its returns with the published returns.

    Each seed is a run in runs/reproduce/TASK. The same command continues a stopped repetition, or adds seeds. The
    returns of all games are in row.json there, to be sent in.
    """

    task: Annotated[str | None, tyro.conf.arg(metavar="[TASK]"), tyro.conf.Positional] = None
    """Task, such as spread; by default all tasks are listed."""
    list: Flag = False
    """List the task, or all, with the returns of others beside those published here, and train nothing."""
    seeds: int = 3
    """Number of seeds, 1 to 100; the seeds are 1, 2, ..."""

    def __post_init__(self) -> None:
        coerce("--seeds", self.seeds, Annotated[int, at_least(1), at_most(100)])


_ALL = (Train, Sweep, Resume, Evaluate, Play, Export, Runs, Compare, Report, Reproduce, Check, Envs, Bench)
COMMANDS: dict[str, type] = {command.__name__.lower(): command for command in _ALL}

"""Settings of the run: name, type with bounds, default, and meaning. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from mappo.config.bounds import above, at_least, at_most, check_types
from mappo.errors import UserError


@dataclass(frozen=True)
class RunConfig:
    """The run: length, directory, evaluations and checkpoints."""

    total_steps: Annotated[int, at_least(1)] = 2_000_000
    """Environment steps of the run, summed over environments; in a step all agents act.
    Rounded up to whole rollouts."""
    seed: Annotated[int, at_least(0)] = 1
    """Seed of all random numbers."""
    seeds: Annotated[int, at_least(1), at_most(100)] = 1  # at most 100: each seed holds open files
    """Number of runs side by side, with consecutive seeds from run.seed on, each in its own directory seed-N."""
    name: str | None = None
    """Name of the run's directory runs/NAME; by default the environment's name and the next free number."""
    dir: str | None = None
    """The run's directory, in place of runs/NAME."""
    exists: Literal["refuse", "resume"] = "refuse"
    """`resume`: go on with the run in its directory, or begin a new run if there is none."""
    init_from: str | None = None
    """Start from the weights and statistics of another run, RUN or RUN@last, RUN@best, RUN@STEP.
    Layers that do not fit are named and stay at their start."""
    init_strict: bool = False
    """Refuse a run.init-from that does not fit completely."""
    processes: Annotated[int, at_least(1), at_most(1024)] = 1
    """Processes on this machine; each steps an equal share of the environments, or trains some of the run.seeds.
    Under torchrun or another launcher its number of processes counts."""
    restarts: Annotated[int, at_least(0)] = 3
    """Times that run.processes are started again after one of them is lost."""
    lost_after: Annotated[float, above(0), at_most(1_000_000)] = 600.0
    """Seconds after which a silent process counts as lost, in a sweep a process of another machine;
    a dead process is noticed at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: cuda if the machine has a GPU and the environment is batched, else cpu."""
    graphs: bool = True
    """Use CUDA graphs for rollouts and updates.
    Turn off if your code synchronises with the GPU or keeps Python state."""
    threads: Annotated[int, at_least(1), at_most(1024)] = 1
    """CPU threads of the learner.
    2 threads are 1.2 to 1.4 times as fast on two free cores for hidden layers of 256; 1 is best for layers of 64,
    and wherever other jobs run."""
    eval_interval: Annotated[int, at_least(1)] = 100_000
    """Steps between two evaluations, each followed by a checkpoint.
    The last two checkpoints and the best stay on disk."""
    keep_every: Annotated[int | None, at_least(1)] = None
    """Also keep the first checkpoint after each multiple of this many steps; none by default."""
    eval_episodes: Annotated[int | None, at_least(1), at_most(1_000_000)] = None
    """Episodes of each evaluation during training.
    By default up to 256: after 25,600 steps no further episode begins."""
    eval_policy: Literal["greedy", "sampled"] = "greedy"
    """Policy of the evaluations and of the replay: `greedy` takes the most likely action, `sampled` samples actions.
    Evaluations make the curve and choose the best checkpoint. The score at the end has both policies."""
    score_episodes: Annotated[int | None, at_least(0), at_most(1_000_000)] = None
    """Episodes of the score at the end, for each policy; 0: no score.
    By default up to 320: after 25,600 steps or a minute no further episode begins."""
    replay_episodes: Annotated[int | None, at_least(0), at_most(100)] = None
    """Episodes of the replay at the end; 0: no replay.
    By default up to 4: after 15 seconds no further episode begins."""
    track: tuple[Literal["wandb", "mlflow", "trackio"], ...] = ()
    """Trackers that follow the run: wandb, mlflow, trackio (docs/trackers.md).
    wandb stays offline without a login; mlflow and trackio write on this machine, unless set up otherwise."""
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    """Display of progress; `auto`: live on a terminal, else plain lines."""
    time_limit: Annotated[float | None, above(0)] = None
    """Save and stop after this many minutes of training, within an update too; counted from each (re)start.
    A run complete within the limit is scored, a stopped run is not."""
    on_nonfinite: Literal["auto", "stop", "skip"] = "auto"
    """Reaction to NaN or infinity: `stop` the run, or `skip` the update (for a gradient: the gradient step).
    `auto` stops if the environment returned the value, and skips if a gradient overflowed."""

    @property
    def most_eval_episodes(self) -> int:
        """Number of episodes of an evaluation, before any budget."""
        return 256 if self.eval_episodes is None else self.eval_episodes

    @property
    def all_seeds(self) -> range:
        """Seeds of the runs side by side."""
        return range(self.seed, self.seed + self.seeds)

    def __post_init__(self) -> None:
        check_types("run", self)
        if self.all_seeds.stop > 2**63:
            raise UserError(f"run.seed {self.seed} and {self.seeds} run.seeds go beyond 2^63")
        if self.name is not None and self.dir is not None:
            raise UserError("run.name and run.dir exclude each other: give one")
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise UserError(f"run.name must be a plain directory name, got {self.name!r}; see run.dir")

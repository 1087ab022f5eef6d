"""Options of an evaluation, shared by the command line, `Run.evaluate` and `evaluate_run`. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path

from mappo.runs.steps import check_name

# First reset seeds, up to a million each: scores and the choice of the best checkpoint use different episodes.
SCORE_SEED = 1_000_000
SELECT_SEED = 2_000_000
SCORE_EPISODES = 320

# Episodes of a replay, and seconds of the replay at the end of a run; after them no further episode begins.
REPLAY_EPISODES = 4
REPLAY_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Options of commands that read a policy of a run; the docstrings of the fields are --help texts."""

    checkpoint: str = "last"
    """Checkpoint of the policy: last, best (by the evaluations during training), or the step of a kept checkpoint."""
    allow_code: bool = False
    """Allow import of the code named in the run's config.json, such as an environment module:function."""

    def __post_init__(self) -> None:
        check_name(self.checkpoint)


@dataclass(frozen=True)
class EvaluateOptions(PolicyOptions):
    """Options of `mappo evaluate`."""

    episodes: int = SCORE_EPISODES
    """Number of episodes, at least 1."""
    on: str | None = None
    """Package of the original environment to play on, such as mpe2; by default the environment of the training."""
    sampled: bool = False
    """Compare the sampled policy with the baselines; by default the greedy policy. Both are scored."""
    workers: int | None = None
    """Number of processes for environments written in Python; by default as in training."""


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(PolicyOptions):
    """Options of `mappo play`."""

    out: Path | None = None
    """New file, .gif, or .mp4 with the program ffmpeg; by default replay.gif of the run, or else replay-2.gif, ...
    No file is overwritten."""
    episodes: int = REPLAY_EPISODES
    """Number of episodes, 1 to 100."""
    seed: int = SCORE_SEED
    """Reset seed of the first episode; further episodes count up."""

"""Scores and costs of the presets, as measured. `mappo envs ENV` shows them, and a test compares them with the pages.

What was not measured is not in the table. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measured:
    """Returns of runs of a preset, one run for each seed, and their cost.

    Args:
        returns: mean return of the team for each seed.
        episodes: scored episodes of each seed.
        steps: environment steps of each run.
        cpu_minutes: CPU-minutes of a run on a core of an AMD EPYC (Zen 5); None if not measured.
        policy: greedy or sampled.
        baselines: mean returns of the baselines over as many episodes.
    """

    returns: tuple[float, ...]
    episodes: int
    steps: int
    cpu_minutes: float | None = None
    policy: str = "greedy"
    baselines: Mapping[str, float] = field(default_factory=dict[str, float])


_SPREAD = {"random": -79.8, "planner": -24.2}

# By environment and preset.
MEASURED: dict[tuple[str, str], Measured] = {
    ("spread", "default"): Measured((-25.2, -25.0, -25.8, -25.3, -25.6), 320, 2_000_000, 1.3, baselines=_SPREAD),
    ("spread", "long"): Measured((-23.1, -22.8, -23.2), 2000, 20_000_000, 10.5),
    ("spread", "paper"): Measured((-27.1,), 320, 5_000_000, 3.0, baselines=_SPREAD),
    ("speaker_listener", "default"): Measured(
        (-7.7, -7.7, -7.7, -7.7, -7.7), 320, 2_000_000, baselines={"random": -42.0, "scripted pair": -7.7}
    ),
    ("reference", "default"): Measured(
        (-15.6, -15.6, -15.6), 2000, 2_000_000, baselines={"random": -57.1, "scripted pair": -15.2}
    ),
    ("battle", "default"): Measured(
        (19.8, 19.8, 19.7),
        2000,
        1_000_000,
        baselines={"random": 0.9, "attack nearest": 13.6, "focus fire": 19.6},
    ),
    ("lbf/Foraging-8x8-2p-2f-coop-v3", "default"): Measured(
        (1.0, 1.0, 0.999), 1000, 2_000_000, policy="sampled", baselines={"random": 0.007}
    ),
    ("vmas/balance", "default"): Measured((63.5, 65.8, 66.3), 320, 2_000_000, baselines={"random": -5.7}),
    ("rware/rware-tiny-2ag-v2", "default"): Measured(
        (4.04,), 320, 1_000_000, policy="sampled", baselines={"random": 0.03}
    ),
    ("mamujoco/HalfCheetah-2x3", "default"): Measured((6976.0,), 64, 1_000_000, baselines={"random": -283.0}),
}

"""Run directories with given numbers, for comparisons: no training, no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mappo.config import Config, EnvConfig, PPOConfig, RunConfig
from mappo.runs.config_json import FORMAT
from mappo.runs.scores import Score, save_score

BASE = Config(
    env=EnvConfig(num_envs=10), ppo=PPOConfig(rollout_length=10), run=RunConfig(total_steps=1000, eval_interval=100)
)


def changed(base: Config = BASE, **sections: Mapping[str, Any]) -> Config:
    return replace(base, **{name: replace(getattr(base, name), **values) for name, values in sections.items()})


def write_config(path: Path, env: str, config: Config) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"format": FORMAT, "env": env, "config": config.to_dict()}))


def record_run(
    path: Path,
    evaluations: Mapping[int, Sequence[float]],
    score: Sequence[float] | None = None,
    env: str = "spread",
    config: Config = BASE,
    seed: int = 1,
    has_games: bool = True,
    baselines: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """Write a run of a single seed.

    Args:
        evaluations: returns of the episodes of each evaluation, by step.
        score: returns of the final score.
    """
    write_config(path, env, changed(config, run={"seed": seed}))
    rows = [
        f"{seed},{step // 100},{step},-50.0,{sum(games) / len(games) if games else ''}\n"
        for step, games in evaluations.items()
    ]
    (path / "metrics.csv").write_text("seed,update,step,return_sum,eval_return\n" + "".join(rows))
    if has_games and evaluations:
        count = max(len(games) for games in evaluations.values())
        header = ",".join(["seed", "update", "step", *(str(2_000_000 + k) for k in range(count))])
        lines = [",".join(map(str, [seed, s // 100, s, *games])) for s, games in evaluations.items() if games]
        (path / "returns.csv").write_text("\n".join([header, *lines]) + "\n")
    if score is not None:
        returns = {"greedy": list(score), "sampled": [x - 100 for x in score]}
        save_score(path, Score(env, "1", max(evaluations), 1_000_000, returns, baselines or {"random": [-70.0, -90.0]}))
    return path


OWN = changed(network={"critic_input": "own"})


def evaluated(last: float, steps: int = 1000) -> dict[int, list[float]]:
    """Returns of three games, every 200 steps, that rise to `last`."""
    return {
        step: [last - (steps - step) / 100 + game for game in (-1.0, 0.0, 1.0)] for step in range(200, steps + 1, 200)
    }


def record_study(folder: Path) -> Path:
    """Two groups of three seeds in each of two environments."""
    for env, shift in (("spread", 0.0), ("battle", 5.0)):
        for name, config, better in (("mappo", BASE, 0.0), ("ippo", OWN, -3.0)):
            for seed in (1, 2, 3):
                last = -20 + shift + better + seed
                score = [last + game for game in (-6.0, 1.0, 2.0, 3.0)]
                record_run(folder / f"{name}-{env}-{seed}", evaluated(last), score, env, config, seed)
    return folder

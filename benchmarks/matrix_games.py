"""Which settings find the best pair of the one-step matrix games, from ten seeds each?

    python benchmarks/matrix_games.py            # about 15 minutes; writes benchmarks/results/matrix_games.csv

Climbing brings 11 at best, 7 in the next equilibrium, 5 for who trusts nobody; penalty (k = -100) 10 or 2.
"""

import argparse
import csv
import platform
from pathlib import Path
from typing import Any

import torch

import mappo
from mappo import envs
from mappo.evaluation.episodes import play_episodes

BASE: dict[str, dict[str, Any]] = {
    "env": {"num_envs": 64},
    "network": {"hidden": (32,)},
    "ppo": {"rollout_length": 1, "epochs": 4, "actor_lr": 1e-3, "critic_lr": 1e-3},
}
UPDATES = 400
# What is changed, in which order from what users start with to what is noisiest.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "default: 64 games an update, entropy 0.01": {},
    "entropy 1, falling to 0": {"ppo": {"entropy_weight": 1.0, "entropy_final": 0.0}},
    "entropy 3, falling to 0": {"ppo": {"entropy_weight": 3.0, "entropy_final": 0.0}},
    "entropy 20, falling to 0, raw advantages": {
        "ppo": {"entropy_weight": 20.0, "entropy_final": 0.0, "advantage_norm": False}
    },
    "a network for each agent": {"network": {"sharing": "none"}},
    "policies that start far from uniform: actor_gain 10": {"network": {"actor_gain": 10.0}},
    "2 games an update, lr 1e-2": {"env": {"num_envs": 2}, "ppo": {"actor_lr": 1e-2, "critic_lr": 1e-2}},
    "2 games an update, lr 1e-2, raw advantages": {
        "env": {"num_envs": 2},
        "ppo": {"actor_lr": 1e-2, "critic_lr": 1e-2, "advantage_norm": False},
    },
}


def found(game: str, changes: dict[str, dict[str, Any]], seed: int) -> float:
    """What the greedy pair brings after training."""
    config = mappo.Config.from_dict(changes, mappo.Config.from_dict(BASE))
    steps = UPDATES * config.env.num_envs
    config = mappo.Config.from_dict({"run": {"total_steps": steps}}, config)
    env = envs.make(game, config.env.num_envs)
    agent = mappo.MAPPO(env.spec, config, seed=seed)
    noise = torch.Generator().manual_seed(seed)
    collector = mappo.Collector(env, agent, 1, env.reset(seed), noise)
    for _ in range(UPDATES):
        agent.update(collector.collect()[0])
    return float(play_episodes(envs.make(game, 1), agent.actor(), [0]).team_returns[0])


def main() -> None:
    """Runs all of it, and writes the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    out = Path(__file__).parent / "results" / "matrix_games.csv"
    with open(out, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["game", "settings", "best", "found_the_best", *(f"seed_{s}" for s in seeds), "torch", "python"]
        )
        for game, best in (("matrix/climbing", 11.0), ("matrix/penalty", 10.0)):
            for told, changes in SETTINGS.items():
                got = [found(game, changes, seed) for seed in seeds]
                share = f"{sum(x == best for x in got)} of {len(got)}"
                writer.writerow([game, told, best, share, *got, torch.__version__, platform.python_version()])
                stream.flush()
                print(f"{game:16} {told:52} {share:9} {got}", flush=True)


if __name__ == "__main__":
    main()

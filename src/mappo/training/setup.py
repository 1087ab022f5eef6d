"""Learners and collector of a run, set up from seeds; shared by training and benchmarks."""

from collections.abc import Sequence

import torch

from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.backend.process_settings import EnvSettings
from mappo.core.protocols import Environment
from mappo.core.seeding import derive_seed
from mappo.rollouts.collector import Collector


def make_collector(agents: Sequence[MAPPO], env: Environment, updates: int = 0) -> tuple[MAPPO | MultiSeed, Collector]:
    """Return the learner over all seeds, and its collector at the start of new episodes.

    All random numbers derive from the seeds of the run and the number of updates already done.

    Args:
        agents: learner of each seed.
        env: equally many copies for each seed, in the order of the seeds.
        updates: updates already done.
    """
    config = agents[0].config
    ranks = agents[0].ranks
    num_envs = env.num_envs // len(agents)
    learner = agents[0] if len(agents) == 1 else MultiSeed(agents)
    generators: list[torch.Generator] = []
    reset_seeds: list[int] = []
    for seed in config.run.all_seeds:
        # `derive_seed` pads its path by zeros: the first process has the numbers of a process alone.
        generators.append(torch.Generator(learner.device).manual_seed(derive_seed(seed, 1, updates, ranks.rank)))
        first = derive_seed(seed, 2, updates) + ranks.rank * num_envs
        reset_seeds += range(first, first + num_envs)
    with EnvSettings():
        step = env.reset(reset_seeds)
    return learner, Collector(env, learner, config.ppo.rollout_length, step, generators, ranks)

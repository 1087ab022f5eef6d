"""mappo's learner and collector, or its environments alone, for `run.py`."""

import json
import sys
from collections.abc import Callable

import torch
from protocol import Turns

from mappo import envs
from mappo.config import Config
from mappo.core.protocols import Environment
from mappo.experiments.workload import Workload
from mappo.system import hardware


class NamedWorkload(Workload):
    """The work of `mappo train NAME` without its files."""

    def __init__(self, name: str, config: Config, seed: int) -> None:
        self.name = name
        super().__init__(config, seed=seed)

    def environment(self) -> Environment:
        """Return new environments of the name."""
        return envs.for_training(self.name, self.config, self.device)[0]


def environment_alone(name: str, config: Config, seed: int) -> Callable[[], float]:
    """Return a function for a rollout's steps with random actions in [-1, 1]: no learner takes less time."""
    env = envs.for_training(name, config, torch.device("cpu"))[0]
    env.reset(seed)
    shape = (config.ppo.rollout_length, config.env.num_envs, env.spec.num_agents, env.spec.action_size)

    def rollout() -> float:
        for action in torch.rand(shape) * 2 - 1:
            env.step(action)
        return float("nan")

    return rollout


def main() -> None:
    """Train as `run.py` requests it."""
    given = json.loads(sys.argv[1])
    turns = Turns(given["burn_in"], ("torch", "vmas"))
    torch.set_num_threads(1)
    hardware.keep_freed_memory()  # as `mappo train`
    config = Config.from_dict(given["config"])
    if given.get("alone"):
        turns.serve(environment_alone(given["env"], config, given["seed"]))
    training = NamedWorkload(given["env"], config, given["seed"])
    turns.serve(lambda: training.update()["return_sum"])


if __name__ == "__main__":
    main()

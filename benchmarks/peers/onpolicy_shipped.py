"""The MAPPO paper's own script for spread, unchanged, with 128 environments in 128 processes, for `run.py`.

Modules it imports without need for them here (gym's old names, wandb and more) have stand-ins.
"""

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from protocol import Turns

SILENT = ("tensorboardX", "seaborn", "setproctitle", "wandb", "imageio")


class Nothing:
    """Accepts any call, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def stand_in(name: str, **content: Any) -> ModuleType:
    """Register a module of some content under a name."""
    module = ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    return module


def add_stand_ins() -> None:
    """Register stand-ins for the modules that the script imports and does not need."""
    import gymnasium
    from gymnasium import error, spaces
    from gymnasium.envs.registration import EnvSpec

    gym = stand_in("gym", Env=gymnasium.Env, Space=gymnasium.Space, spaces=spaces, error=error, __path__=[])
    stand_in("gym.envs", registration=stand_in("gym.envs.registration", EnvSpec=EnvSpec), __path__=[])
    sys.modules |= {"gym.spaces": gym.spaces, "gym.error": gym.error}
    for name in SILENT:
        stand_in(name)
    sys.modules["tensorboardX"].__dict__["SummaryWriter"] = Nothing
    sys.modules["seaborn"].__dict__["color_palette"] = lambda *_, **__: [(0, 0, 0)] * 64
    sys.modules["setproctitle"].__dict__["setproctitle"] = lambda _: None


def arguments(config: dict[str, Any], seed: int) -> list[str]:
    """Return the options of its script for spread, in the words of mappo's Config."""
    ppo = config["ppo"]
    options = {
        "env_name": "MPE",
        "scenario_name": "simple_spread",
        "algorithm_name": "rmappo" if config["network"]["memory_size"] else "mappo",
        "experiment_name": "peers",
        "num_agents": 3,
        "num_landmarks": 3,
        "seed": seed,
        "n_training_threads": 1,
        "n_rollout_threads": config["env"]["num_envs"],
        "num_mini_batch": ppo["minibatches"],
        "episode_length": ppo["rollout_length"],
        "ppo_epoch": ppo["epochs"],
        "num_env_steps": 20_000_000,
        "gain": config["network"]["actor_gain"],
        "lr": ppo["actor_lr"],
        "critic_lr": ppo["critic_lr"],
    }
    switches = ["--use_ReLU", "--use_wandb"]  # they turn off what their names say
    return switches + [text for name, value in options.items() for text in (f"--{name}", str(value))]


def main() -> None:
    """Train as `run.py` requests it."""
    given = json.loads(sys.argv[1])
    turns = Turns(given["burn_in"], ("torch", "numpy"))
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"
    add_stand_ins()
    sys.path.insert(0, str(Path(sys.prefix) / "source"))
    from onpolicy.runner.shared.mpe_runner import MPERunner
    from onpolicy.scripts.train import train_mpe

    train = MPERunner.train

    def train_and_wait(runner: Any) -> Any:
        metrics = train(runner)
        turns.end_of_update(float(runner.buffer.rewards.sum(0).mean()))
        return metrics

    MPERunner.train = train_and_wait
    # Results lie beside the script: run it from a copy of its path in a temporary folder.
    with tempfile.TemporaryDirectory() as folder:
        train_mpe.__file__ = str(Path(folder) / "onpolicy/scripts/train/train_mpe.py")
        train_mpe.main(arguments(given["config"], given["seed"]))


if __name__ == "__main__":
    main()

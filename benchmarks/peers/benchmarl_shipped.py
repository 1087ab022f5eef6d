"""BenchMARL's MAPPO on VMAS by its public API, without logs and evaluations, for `run.py`."""

import json
import sys
import tempfile
from typing import Any

import torch
from benchmarl.algorithms import MappoConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from protocol import Turns


class EndOfUpdate(Callback):
    """Calls a function after each update."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns

    def on_train_end(self, training_td: Any, group: str) -> None:
        """Wait for the driver's next request."""
        self.turns.end_of_update(float(self.experiment.mean_return))


def experiment_config(config: dict[str, Any], folder: str) -> ExperimentConfig:
    """Return BenchMARL's shipped settings, changed to those of mappo's Config."""
    ppo, envs = config["ppo"], config["env"]["num_envs"]
    experiment = ExperimentConfig.get_from_yaml()
    steps = envs * ppo["rollout_length"]
    experiment.on_policy_n_envs_per_worker = envs
    experiment.on_policy_collected_frames_per_batch = steps
    experiment.on_policy_minibatch_size = steps // ppo["minibatches"]
    experiment.on_policy_n_minibatch_iters = ppo["epochs"]
    experiment.max_n_frames = None
    experiment.max_n_iters = 1_000_000
    experiment.gamma = ppo["gamma"]
    experiment.lr = ppo["actor_lr"]
    experiment.adam_eps = ppo["adam_eps"]
    experiment.clip_grad_val = ppo["max_grad_norm"]
    experiment.evaluation = False
    experiment.loggers = []
    experiment.create_json = False
    experiment.save_folder = folder
    return experiment


def main() -> None:
    """Train as `run.py` requests it."""
    given = json.loads(sys.argv[1])
    turns = Turns(given["burn_in"], ("benchmarl", "torchrl", "tensordict", "vmas", "torch"))
    torch.set_num_threads(1)
    config = given["config"]
    algorithm = MappoConfig.get_from_yaml()
    algorithm.lmbda = config["ppo"]["gae_lambda"]
    algorithm.entropy_coef = config["ppo"]["entropy_weight"]
    task = VmasTask[given["task"].upper()].get_from_yaml()
    task.config = given["options"]
    model = MlpConfig(
        num_cells=config["network"]["hidden"], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh
    )
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(task, algorithm, model, given["seed"], experiment_config(config, folder))
        callback = EndOfUpdate(turns)
        callback.experiment = experiment
        experiment.callbacks.append(callback)  # not as an argument: the experiment would pickle it
        experiment.run()


if __name__ == "__main__":
    main()

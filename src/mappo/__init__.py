"""Cooperative multi-agent reinforcement learning with MAPPO.

Names are imported at first use (PEP 562), so that `import mappo` and `mappo --help` do not wait for torch.
"""

import importlib
import random
import sys
from typing import TYPE_CHECKING, Any

from mappo._version import __version__ as __version__

if TYPE_CHECKING:
    from mappo.algorithms.loss import Outputs as Outputs
    from mappo.algorithms.mappo import MAPPO as MAPPO
    from mappo.algorithms.minibatch import Batch as Batch
    from mappo.config import (
        Config as Config,
        EnvConfig as EnvConfig,
        NetworkConfig as NetworkConfig,
        PPOConfig as PPOConfig,
        RunConfig as RunConfig,
    )
    from mappo.core.protocols import Environment as Environment, Resumable as Resumable
    from mappo.core.spec import ActionHeads as ActionHeads, Spec as Spec
    from mappo.core.timestep import Rollout as Rollout, TimeStep as TimeStep
    from mappo.deploy.load import load_actor as load_actor
    from mappo.envs import make as make, preset as preset
    from mappo.envs.adapters.smac_env import SmacEnv as SmacEnv
    from mappo.errors import StopTraining as StopTraining, UserError as UserError
    from mappo.experiments.compare.comparison import compare as compare
    from mappo.experiments.compare.listing import list_runs as list_runs
    from mappo.experiments.report.report import report as report
    from mappo.functional.losses import (
        ppo_clip_loss as ppo_clip_loss,
        ppo_info as ppo_info,
        ppo_policy_data as ppo_policy_data,
        ppo_policy_error as ppo_policy_error,
        ppo_policy_loss as ppo_policy_loss,
        ppo_value_data as ppo_value_data,
        ppo_value_error as ppo_value_error,
    )
    from mappo.functional.returns import (
        discounted_return as discounted_return,
        gae as gae,
        gae_data as gae_data,
        n_step_return as n_step_return,
    )
    from mappo.networks.encoders import register_encoder as register_encoder
    from mappo.networks.tutorial import (
        CTDEActorCriticNetwork as CTDEActorCriticNetwork,
        IndependentActorCriticNetwork as IndependentActorCriticNetwork,
        SharedActorCriticNetwork as SharedActorCriticNetwork,
    )
    from mappo.rollouts.collector import Collector as Collector
    from mappo.training.run import Run as Run, load_run as load_run
    from mappo.training.train import train as train

# Public names by module. The imports above are for type checkers alone.
_HOME = {
    "deploy.load": ["load_actor"],
    "rollouts.collector": ["Collector"],
    "config": ["Config", "EnvConfig", "NetworkConfig", "PPOConfig", "RunConfig"],
    "networks.encoders": ["register_encoder"],
    "envs": ["make", "preset"],
    "errors": ["StopTraining", "UserError"],
    "algorithms.loss": ["Outputs"],
    "algorithms.mappo": ["MAPPO"],
    "algorithms.minibatch": ["Batch"],
    "functional.losses": [
        *("ppo_clip_loss", "ppo_info", "ppo_policy_data", "ppo_policy_error", "ppo_policy_loss"),
        *("ppo_value_data", "ppo_value_error"),
    ],
    "networks.tutorial": ["CTDEActorCriticNetwork", "IndependentActorCriticNetwork", "SharedActorCriticNetwork"],
    "functional.returns": ["discounted_return", "gae", "gae_data", "n_step_return"],
    "core.spec": ["ActionHeads", "Spec"],
    "experiments.compare.comparison": ["compare"],
    "experiments.compare.listing": ["list_runs"],
    "experiments.report.report": ["report"],
    "training.run": ["Run", "load_run"],
    "training.train": ["train"],
    "core.protocols": ["Environment", "Resumable"],
    "core.timestep": ["Rollout", "TimeStep"],
    "envs.adapters.smac_env": ["SmacEnv"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = [*_MODULE, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        hint = "; a run has it, as in mappo.load_run(path).evaluate()" if name == "evaluate" else ""
        raise AttributeError(f"module 'mappo' has no attribute {name!r}{hint}")
    path = f"mappo.{_MODULE[name]}"
    if path not in sys.modules:
        state = random.getstate()
        if "torch" not in sys.modules:
            from mappo.system import hardware  # late: `import mappo` stays fast

            hardware.let_idle_threads_sleep()
        importlib.import_module(path)
        random.setstate(state)  # rich draws a number when it is imported, from the stream of the caller
    return getattr(sys.modules[path], name)


def __dir__() -> list[str]:
    return sorted(__all__)

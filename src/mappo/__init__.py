"""Cooperative multi-agent reinforcement learning with MAPPO.

Names load when they are first used, so that `import mappo` and `mappo --help` do not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mappo.collector import Collector as Collector
    from mappo.config import Config as Config
    from mappo.config import EnvConfig as EnvConfig
    from mappo.config import NetworkConfig as NetworkConfig
    from mappo.config import PPOConfig as PPOConfig
    from mappo.config import RunConfig as RunConfig
    from mappo.encoders import register_encoder as register_encoder
    from mappo.envs import make as make
    from mappo.errors import StopTraining as StopTraining
    from mappo.errors import UserError as UserError
    from mappo.learner import MAPPO as MAPPO
    from mappo.losses import ppo_clip_loss as ppo_clip_loss
    from mappo.losses import ppo_info as ppo_info
    from mappo.losses import ppo_policy_data as ppo_policy_data
    from mappo.losses import ppo_policy_error as ppo_policy_error
    from mappo.losses import ppo_policy_loss as ppo_policy_loss
    from mappo.losses import ppo_value_data as ppo_value_data
    from mappo.losses import ppo_value_error as ppo_value_error
    from mappo.networks import CTDEActorCriticNetwork as CTDEActorCriticNetwork
    from mappo.networks import IndependentActorCriticNetwork as IndependentActorCriticNetwork
    from mappo.networks import SharedActorCriticNetwork as SharedActorCriticNetwork
    from mappo.presets import preset as preset
    from mappo.returns import discounted_return as discounted_return
    from mappo.returns import gae as gae
    from mappo.returns import gae_data as gae_data
    from mappo.returns import n_step_return as n_step_return
    from mappo.run import Run as Run
    from mappo.saved_actor import load_actor as load_actor
    from mappo.spec import ActionHeads as ActionHeads
    from mappo.spec import Spec as Spec
    from mappo.trainer import train as train
    from mappo.types import Environment as Environment
    from mappo.types import Rollout as Rollout
    from mappo.types import TimeStep as TimeStep

_HOME = {
    "saved_actor": ["load_actor"],
    "collector": ["Collector"],
    "config": ["Config", "EnvConfig", "NetworkConfig", "PPOConfig", "RunConfig"],
    "encoders": ["register_encoder"],
    "envs": ["make"],
    "errors": ["StopTraining", "UserError"],
    "learner": ["MAPPO"],
    "losses": [
        *("ppo_clip_loss", "ppo_info", "ppo_policy_data", "ppo_policy_error", "ppo_policy_loss"),
        *("ppo_value_data", "ppo_value_error"),
    ],
    "networks": ["CTDEActorCriticNetwork", "IndependentActorCriticNetwork", "SharedActorCriticNetwork"],
    "presets": ["preset"],
    "returns": ["discounted_return", "gae", "gae_data", "n_step_return"],
    "spec": ["ActionHeads", "Spec"],
    "run": ["Run"],
    "trainer": ["train"],
    "types": ["Environment", "Rollout", "TimeStep"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = [*_MODULE, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'mappo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mappo.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

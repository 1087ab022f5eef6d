"""Notes about settings without effect in a run, such as workers of an environment that is batched in torch."""

from typing import Any

import torch

from mappo.config import Config
from mappo.core.observations import has_images
from mappo.core.protocols import Environment
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs


def unused_notes(config: Config, env: Environment) -> list[str]:
    """Return a sentence for each setting that differs from its default, and has no effect with this environment."""
    default = Config()
    notes: list[str] = []
    for option, (is_unused, reason) in _rules(config, env).items():
        section, _, name = option.partition(".")
        value: Any = getattr(getattr(config, section), name)
        if is_unused and value != getattr(getattr(default, section), name):
            notes.append(f"{option.replace('_', '-')} {value} has no effect: {reason}")
    return notes


def _rules(config: Config, env: Environment) -> dict[str, tuple[bool, str]]:
    """Return, for each setting, whether it has no effect, and why."""
    ppo = config.ppo
    spec = env.spec
    is_python = isinstance(env, SerialEnvs | WorkerPool)
    in_process = "one environment needs no worker" if is_python else "these environments are stepped at once, by torch"
    no_workers = (not isinstance(env, WorkerPool), "no worker process steps the environments")
    no_images = (not has_images(*spec.obs_parts) and len(spec.state_shape or ()) != 3, "no observation holds an image")
    discrete = (not any(heads.low for heads in spec.action_heads), "all actions are discrete")
    one_agent = (spec.num_agents == 1, "there is one agent")
    return {
        "env.workers": (no_workers[0] and config.env.workers != 0, in_process),
        "env.restart": no_workers,
        "env.worker_timeout": no_workers,
        "network.encoder": no_images if config.network.encoder == "cnn" else (False, ""),
        "network.channels": no_images,
        "network.action_bounds": discrete,
        "network.action_std": discrete,
        "network.initial_std": discrete,
        "network.sharing": one_agent,
        "network.precision": (
            config.network.precision == "tf32" and torch.device(env.device).type != "cuda",
            "it needs CUDA, and the run computes in float32",
        ),
        "ppo.n_step": (ppo.returns != "n_step", f"ppo.returns is {ppo.returns}"),
        "ppo.gae_lambda": (ppo.returns != "gae", f"ppo.returns is {ppo.returns}"),
        "ppo.value_norm_decay": (not ppo.value_norm, "ppo.value-norm is off"),
        "ppo.chunk_length": (config.chunk_length is None, "single steps are shuffled: see ppo.minibatch-by"),
    }

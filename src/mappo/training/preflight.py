"""Notes shown before a run begins: its networks, and settings with waste of time or memory, with a better option."""

import math

import torch

from mappo.algorithms.mappo import MAPPO, PIECE_ROWS
from mappo.config import Config
from mappo.config.bounds import nearest_divisor
from mappo.config.presets import presets_of
from mappo.core.protocols import Composite, Environment
from mappo.core.spec import Spec
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs
from mappo.system import hardware
from mappo.training.unused_settings import unused_notes

# Numbers of batched environments: below the first, calls take longer than arithmetic; the second is advised.
FEW_ENVS = {"cpu": 32, "cuda": 1024}
ENOUGH_ENVS = {"cpu": 128, "cuda": 4096}
FEW_UPDATES = 20
BATCH_FACTOR = 4  # a note is shown if gradient steps have this many times more or fewer rows than in the preset
MEMORY_FRACTION = 0.7  # a note is shown if a run needs more of the machine's memory


def session_notes(name: str, config: Config, env: Environment, eval_env: Environment | None, agent: MAPPO) -> list[str]:
    """Return all notes of a run.

    Args:
        name: name of the environment.
        config: settings of each seed.
        env: environment of the training.
        eval_env: environment of the evaluations, if any.
        agent: learner of a seed.
    """
    notes = [f"{agent.policy.describe()}; the critic reads {agent.critic_input.describe()}"]
    if isinstance(env, WorkerPool):
        notes.append(f"{env.num_envs} environments in {env.num_workers} worker processes")
    if eval_env is None:
        notes.append(f"{name} is one set of environments: there are no evaluations during training")
    return notes + preflight_notes(name, config, env)


def preflight_notes(name: str, config: Config, env: Environment) -> list[str]:
    """Return a sentence for each setting that is wasteful, at odds with the rest of the preset, or without effect.

    Args:
        name: name of the environment.
        config: settings of each seed.
        env: environment of the training.
    """
    device = torch.device(env.device)
    notes = [
        _threads_note(config, env),
        _num_envs_note(config, env, device),
        _updates_note(config),
        _batch_note(name, config),
        _memory_note(config, env.spec, device),
        _gpu_note(name, config, device),
    ]
    return [note for note in notes if note] + unused_notes(config, env)


def memory_needed(config: Config, spec: Spec, device: torch.device) -> float:
    """Estimate the GiB of a training, within a fifth of benchmarks/scaling.py for networks without a GRU."""
    rows = config.steps_per_update * spec.num_agents
    obs_bytes = 2 * rows * math.prod(spec.obs_shape) * spec.obs_dtype.itemsize  # obs and next_obs
    minibatch_rows = rows / config.ppo.minibatches
    # On a CPU seeds learn in turn, and large minibatches are computed in pieces.
    seeds_at_once = 1 if device.type == "cpu" else config.run.seeds
    rows_at_once = min(minibatch_rows, PIECE_ROWS) if device.type == "cpu" else minibatch_rows
    activation_bytes = rows_at_once * sum(config.network.hidden) * 4
    return (4 * obs_bytes * config.run.seeds + 7 * activation_bytes * seeds_at_once) / 2**30


def _threads_note(config: Config, env: Environment) -> str:
    cores = hardware.usable_cores()
    if config.run.threads > cores:
        return (
            f"run.threads {config.run.threads} on {cores} cores: threads that wait for a core slow all others down; "
            f"--run.threads 1 is seldom slower for networks of this size"
        )
    if isinstance(env, WorkerPool) and env.num_workers > max(cores, 1) and (config.env.workers or 0) > cores:
        return f"env.workers {env.num_workers} on {cores} cores: more workers than cores are no faster"
    return ""


def _num_envs_note(config: Config, env: Environment, device: torch.device) -> str:
    first = env
    num_envs = env.num_envs
    if isinstance(env, Composite):  # joined environments of several seeds are stepped one after another
        first = env.joined_envs[0]
        num_envs = config.env.num_envs
    if isinstance(first, SerialEnvs | WorkerPool) or num_envs >= FEW_ENVS.get(device.type, 0):
        return ""
    return (
        f"env.num-envs {config.env.num_envs}: with so few environments side by side most of the time goes into calls; "
        f"{ENOUGH_ENVS.get(device.type, 0)} train many more steps in a second (benchmarks/README.md has the curve)"
    )


def _updates_note(config: Config) -> str:
    if config.num_updates >= FEW_UPDATES:
        return ""
    return (
        f"{config.num_updates} updates in all are too few to learn much: give --run.total-steps more, or each update "
        f"fewer than {config.steps_per_update:,} steps (--env.num-envs, --ppo.rollout-length)"
    )


def _batch_note(name: str, config: Config) -> str:
    size = config.steps_per_update // config.ppo.minibatches
    preset_sizes = [c.steps_per_update // c.ppo.minibatches for c in presets_of(name).values()]
    is_near = any(size < BATCH_FACTOR * other and other < BATCH_FACTOR * size for other in preset_sizes)
    if is_near or not preset_sizes:
        return ""
    count = nearest_divisor(config.steps_per_update, max(1, config.steps_per_update // preset_sizes[0]))
    new_size = config.steps_per_update // count
    is_better = BATCH_FACTOR * new_size > preset_sizes[0] and count != config.ppo.minibatches
    hint = f"--ppo.minibatches {count} makes it {new_size:,}, or " if is_better else ""
    return (
        f"each gradient step learns from {size:,} steps; the learning rates of {name}'s preset were chosen for "
        f"{preset_sizes[0]:,}: {hint}choose --ppo.actor-lr and --ppo.critic-lr anew"
    )


def _memory_note(config: Config, spec: Spec, device: torch.device) -> str:
    is_cuda = device.type == "cuda"
    available = torch.cuda.mem_get_info(device)[1] / 2**30 if is_cuda else hardware.memory_gib()
    needed = memory_needed(config, spec, device)
    if available is None or needed <= MEMORY_FRACTION * available:
        return ""
    more = "--ppo.minibatches more, or " if is_cuda else ""  # a CPU computes large minibatches in pieces anyway
    return (
        f"training takes about {needed:.1f} GiB, and there are {available:.1f}: give {more}--env.num-envs and "
        f"--ppo.rollout-length less"
    )


def _gpu_note(name: str, config: Config, device: torch.device) -> str:
    if config.run.device == "cpu" or device.type != "cpu" or not torch.cuda.is_available():
        return ""
    return f"{name} is stepped on the CPU, and trained there: the GPU is not used"

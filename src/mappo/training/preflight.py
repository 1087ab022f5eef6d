"""What a run's settings waste, said before it begins: each with the option that mends it."""

import math

import torch

from mappo.algorithms.mappo import PIECE_ROWS
from mappo.config import Config
from mappo.config.bounds import nearest_divisor
from mappo.config.presets import presets_of
from mappo.core.protocols import Composite, Environment
from mappo.core.spec import Spec
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs
from mappo.system import hardware

FEW_ENVS = {"cpu": 32, "cuda": 1024}  # batched ones, below which calls take longer than arithmetic
ENOUGH_ENVS = {"cpu": 128, "cuda": 4096}
FEW_UPDATES = 20
BATCH_FACTOR = 4  # times as many rows in a gradient step as in any preset, or as few
MEMORY_FRACTION = 0.7  # of the memory that there is


def preflight_notes(name: str, config: Config, env: Environment) -> list[str]:
    """A sentence for each setting that wastes time or memory, or that the preset's others were not chosen for.

    Args:
        name: of the environment. config: of each seed. env: what is trained in.
    """
    device = torch.device(env.device)
    told = [_threads_note(config, env), _num_envs_note(config, env, device), _updates_note(config)]
    told += [_batch_note(name, config), _memory_note(config, env.spec, device), _gpu_note(name, config, device)]
    return [sentence for sentence in told if sentence]


def memory_needed(config: Config, spec: Spec, device: torch.device) -> float:
    """GiB that training takes, roughly: within a fifth of what benchmarks/scaling.py measured, without a GRU."""
    rows = config.steps_per_update * spec.num_agents
    seen = 2 * rows * math.prod(spec.obs_shape) * spec.obs_dtype.itemsize  # before and behind each step
    at_once = rows / config.ppo.minibatches
    learning = 1 if device.type == "cpu" else config.run.seeds  # on a CPU seeds learn in turn
    activations = (min(at_once, PIECE_ROWS) if device.type == "cpu" else at_once) * sum(config.network.hidden) * 4
    return (4 * seen * config.run.seeds + 7 * activations * learning) / 2**30


def _threads_note(config: Config, env: Environment) -> str:
    cores = hardware.usable_cores()
    if config.run.threads > cores:
        return (
            f"run.threads {config.run.threads} on {cores} cores: threads that wait for a core slow all others down; "
            f"--run.threads 1 is seldom slower for networks of this size"
        )
    if isinstance(env, WorkerPool) and env.num_workers > max(cores, 1) and (config.env.workers or 0) > cores:
        return f"env.workers {env.num_workers} on {cores} cores: more of them than cores are no faster"
    return ""


def _num_envs_note(config: Config, env: Environment, device: torch.device) -> str:
    one, at_once = (env.joined_envs[0], config.env.num_envs) if isinstance(env, Composite) else (env, env.num_envs)
    few, enough = FEW_ENVS.get(device.type, 0), ENOUGH_ENVS.get(device.type, 0)
    if isinstance(one, SerialEnvs | WorkerPool) or at_once >= few:
        return ""
    return (
        f"env.num-envs {config.env.num_envs}: with so few games side by side most of the time goes into calls; "
        f"{enough} train many more steps in a second (benchmarks/README.md has the curve)"
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
    tuned = [c.steps_per_update // c.ppo.minibatches for c in presets_of(name).values()]
    if any(size < BATCH_FACTOR * other and other < BATCH_FACTOR * size for other in tuned) or not tuned:
        return ""
    count = nearest_divisor(config.steps_per_update, max(1, config.steps_per_update // tuned[0]))
    better = BATCH_FACTOR * (config.steps_per_update // count) > tuned[0] and count != config.ppo.minibatches
    way = f"--ppo.minibatches {count} makes it {config.steps_per_update // count:,}, or " if better else ""
    return (
        f"each gradient step learns from {size:,} steps; the learning rates of {name}'s preset were chosen for "
        f"{tuned[0]:,}: {way}choose --ppo.actor-lr and --ppo.critic-lr anew"
    )


def _memory_note(config: Config, spec: Spec, device: torch.device) -> str:
    there = torch.cuda.mem_get_info(device)[1] / 2**30 if device.type == "cuda" else hardware.memory_gib()
    needed = memory_needed(config, spec, device)
    if there is None or needed <= MEMORY_FRACTION * there:
        return ""
    more = "--ppo.minibatches more, or " if device.type == "cuda" else ""  # elsewhere large ones go by in pieces
    return (
        f"training takes about {needed:.1f} GiB, and there are {there:.1f}: give {more}--env.num-envs and "
        f"--ppo.rollout-length less"
    )


def _gpu_note(name: str, config: Config, device: torch.device) -> str:
    if config.run.device == "cpu" or device.type != "cpu" or not torch.cuda.is_available():
        return ""
    return f"{name} is stepped on the CPU, and trained there: the GPU is not used"

"""Notes shown before a run begins: its networks, and settings with waste of time or memory, with a better option."""

import math
import os
from pathlib import Path

import torch

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config
from mappo.config.bounds import nearest_divisor
from mappo.config.presets import presets_of
from mappo.core.observations import is_channels_first, is_channels_unclear
from mappo.core.protocols import Composite, Environment
from mappo.envs.vector.api_checks import check_image_size
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs
from mappo.networks.cnn import MAX_OUTPUTS
from mappo.networks.network import Network
from mappo.system import hardware
from mappo.training.evaluator import Evaluator
from mappo.training.header import device_line, number_note, settings_line
from mappo.training.unused_settings import unused_notes

# Numbers of batched environments: below the first, calls take longer than arithmetic; the second is advised.
FEW_ENVS = {"cpu": 32, "cuda": 1024}
ENOUGH_ENVS = {"cpu": 128, "cuda": 4096}
FEW_UPDATES = 20
BATCH_FACTOR = 4  # a note is shown if gradient steps have this many times more or fewer rows than in the preset
PAYING_ROWS = 1500  # steps in a gradient step of each process, from which two processes are faster than one
MEMORY_FRACTION = 0.7  # a note is shown if a run needs more of the machine's memory


def session_notes(
    path: Path, name: str, config: Config, env: Environment, evaluator: Evaluator | None, agent: MAPPO
) -> list[str]:
    """Return all notes of a run.

    Args:
        path: run directory.
        name: name of the environment.
        config: settings of each seed.
        env: environment of the training.
        evaluator: plays the evaluations, if there are any.
        agent: learner of a seed.
    """
    number = number_note(path, name, config)
    notes = [
        *([number] if number else []),
        f"{settings_line(name, config)}; {device_line(agent.device, config.run.threads)}",
        f"{agent.policy.describe()}; the critic reads {agent.critic_input.describe()}",
    ]
    if agent.ranks.size > 1:
        notes.append(f"{agent.ranks.size} processes, of {env.num_envs} environments each")
    if isinstance(env, WorkerPool):
        notes.append(f"{env.num_envs} environments in {env.num_workers} worker processes")
    if evaluator is None:
        notes.append(f"{name} is one set of environments: there are no evaluations during training")
    return notes + preflight_notes(name, config, env, agent)


def preflight_notes(name: str, config: Config, env: Environment, agent: MAPPO) -> list[str]:
    """Return a sentence for each setting that is wasteful, at odds with the rest of the preset, or without effect.

    Args:
        name: name of the environment.
        config: settings of each seed.
        env: environment of the training.
        agent: learner of a seed.
    """
    device = torch.device(env.device)
    notes = [
        _threads_note(config, env),
        _num_envs_note(config, env, device),
        _updates_note(config),
        _batch_note(name, config),
        _processes_note(config, env, agent),
        _image_note(agent),
        _memory_note(agent),
        _gpu_note(name, config, device),
    ]
    return [note for note in notes if note] + unused_notes(config, env)


def memory_needed(agent: MAPPO, device: torch.device | None = None) -> float:
    """Estimate the GiB of a training, without Python and torch: within a fifth of benchmarks/scaling.py.

    For many agents, images and memories the estimate lies within a factor of 1.5 of the measured peaks.

    Args:
        agent: learner of a seed.
        device: by default the learner's.
    """
    config = agent.config
    actor = agent.network.actor
    critic = agent.network.critic
    is_cpu = (device or agent.device).type == "cpu"
    team_rows = config.steps_per_update // agent.ranks.size
    agent_rows = team_rows * agent.spec.num_agents
    critic_rows = team_rows if agent.team_rows else agent_rows
    # Rollout, critic's rows and batch. Images of bytes stay bytes in all; other bytes become floats after the rollout.
    itemsize = 1 if len(actor.shape) == 3 and agent.spec.observes_bytes else 4
    obs = agent_rows * math.prod(actor.shape)
    data = 2 * (obs * agent.spec.obs_dtype.itemsize + critic_rows * math.prod(critic.shape) * itemsize)
    if agent.spec.state_shape is not None and agent.critic_input.mode != "env":  # else the state is the critic's row
        state_itemsize = 1 if len(agent.spec.state_shape) == 3 and agent.spec.observes_bytes else 4
        data += 2 * team_rows * math.prod(agent.spec.state_shape) * state_itemsize
    # Values of a rollout, then forward and backward passes. On a CPU both are computed in pieces where rows are many.
    rows = agent_rows / config.ppo.minibatches
    evaluated_rows = critic_rows
    if is_cpu:
        rows = min(rows, agent.piece_rows)
        evaluated_rows = min(critic_rows, MAX_OUTPUTS / max(1, critic.conv_outputs))
    evaluated = evaluated_rows * (critic.conv_outputs + _num_inputs(critic) + 2 * _num_features(critic))
    trained = rows * (3 * actor.conv_outputs + _num_inputs(actor) + 5 * _num_features(actor))
    trained += rows * critic_rows / agent_rows * (3 * critic.conv_outputs + 5 * _num_features(critic))
    at_once = max(4 * evaluated, 3 * obs * itemsize + 4 * trained)
    return (data * config.run.seeds + at_once * (1 if is_cpu else config.run.seeds)) / 2**30  # on a CPU in turn


def _num_features(network: Network) -> int:
    """Return the number of outputs of all dense layers for a row; a GRU counts as three layers of its width."""
    return sum(network.hidden) + 3 * network.memory_size


def _num_inputs(network: Network) -> int:
    """Return the number of floats made of a row for convolutions, in two layouts; 0 without convolutions."""
    return 2 * math.prod(network.shape) if network.conv_outputs else 0


def _processes_note(config: Config, env: Environment, agent: MAPPO) -> str:
    """Return a note if the gradient steps are too short for the messages between processes on CPUs."""
    size = agent.ranks.size
    rows = config.steps_per_update // config.ppo.minibatches // size
    if size == 1 or agent.device.type != "cpu" or isinstance(env, SerialEnvs | WorkerPool) or rows >= PAYING_ROWS:
        return ""
    return (
        f"{size} processes will hardly be faster than a single process: each has {rows:,} steps of a gradient step, "
        f"and they pay from {PAYING_ROWS:,} on; lower --ppo.minibatches or raise --env.num-envs (docs/cluster.md)"
    )


def _image_note(agent: MAPPO) -> str:
    """Return a note on large images, or on images with an axis of channels that is hard to guess."""
    spec = agent.spec
    findings = [check_image_size(name, parts) for parts, name in zip(spec.obs_parts, spec.agents, strict=True)]
    if agent.critic_input.mode in ("env", "agent"):
        findings.append(check_image_size("", spec.state_parts, "large-state"))
    for finding in filter(None, findings):
        return f"{finding}. Training takes about {memory_needed(agent):.1f} GiB"
    for parts, name in zip(spec.obs_parts, spec.agents, strict=True):
        shapes = [part.shape for part in parts if is_channels_unclear(part.shape)]
        if shapes and agent.config.network.channels == "auto":
            return (
                f"images of {name} are {' x '.join(map(str, shapes[0]))}: the "
                f"{'first' if is_channels_first(shapes[0]) else 'last'} axis is read as channels, by a guess from the "
                f"sizes; --network.channels first or last says which"
            )
    return ""


def _threads_note(config: Config, env: Environment) -> str:
    cores = hardware.usable_cores()
    if config.run.threads > cores:
        return (
            f"run.threads {config.run.threads} on {cores} cores: threads that wait for a core slow all others down; "
            f"--run.threads 1 is seldom slower for networks of this size"
        )
    if config.run.threads > 1 and "OMP_WAIT_POLICY" not in os.environ:  # torch was loaded before mappo
        return (
            f"run.threads {config.run.threads}: threads spin while they wait, at the cost of other jobs; import mappo "
            f"before torch, or set OMP_WAIT_POLICY=PASSIVE and GOMP_SPINCOUNT=1000 in the environment"
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
        f"number of updates: {config.num_updates}, too few to learn much; raise --run.total-steps, or take fewer than "
        f"{config.steps_per_update:,} steps for each update (lower --env.num-envs or --ppo.rollout-length)"
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


def _memory_note(agent: MAPPO) -> str:
    is_cuda = agent.device.type == "cuda"
    available = torch.cuda.mem_get_info(agent.device)[1] / 2**30 if is_cuda else hardware.memory_gib()
    needed = memory_needed(agent)
    if available is None or needed <= MEMORY_FRACTION * available:
        return ""
    more = "raise --ppo.minibatches, or " if is_cuda else ""  # a CPU computes large minibatches in pieces anyway
    return (
        f"training takes about {needed:.1f} GiB, and the machine has {available:.1f}: {more}lower --env.num-envs or "
        f"--ppo.rollout-length"
    )


def _gpu_note(name: str, config: Config, device: torch.device) -> str:
    if config.run.device == "cpu" or device.type != "cpu" or not torch.cuda.is_available():
        return ""
    return f"{name} is stepped on the CPU, and trained there: the GPU is not used"

"""Loading of the policy in a run directory, for use without environment or learner."""

import warnings
from pathlib import Path

import torch

from mappo.backend.process_settings import TorchDefaults
from mappo.core.state_dict import mismatch, subdict
from mappo.core.user_code import check_code
from mappo.errors import UserError
from mappo.networks.actor_critic import build_actor
from mappo.policies.actor import Actor
from mappo.policies.policy import Policy
from mappo.runs.checkpoint import Checkpoint, load
from mappo.runs.directory import read_run, seed_paths
from mappo.system.files import as_path


def load_actor(
    path: str | Path,
    *,
    checkpoint: str | int = "last",
    sampled: bool = False,
    device: str = "cpu",
    allow_code: bool = False,
) -> Actor:
    """Load the policy of a run. The policy needs no environment and no config.

    Args:
        path: the run directory; of several seeds the directory of one, such as `runs/x/seed-2`.
        checkpoint: `last`, `best`, or the step of a kept checkpoint.
        sampled: sample actions, in place of choosing the likeliest.
        device: device of the network.
        allow_code: import the encoder named in the run's `config.json` by `module:function`.

    Returns:
        `actor(obs, memory=None, *, mask=None, is_first=None) -> (action, memory)` for the team, see `Actor`.
        `actor.agent(NAME)` is the policy of a single agent, with the agent's own observations and actions.

    Raises:
        UserError: the directory is not a run, its checkpoint is missing or damaged, or the import of its encoder is not
            allowed.
    """
    return read_actor(as_path(path), checkpoint, sampled, device, allow_code)[0]


def read_actor(
    path: Path, checkpoint: str | int = "last", sampled: bool = False, device: str = "cpu", allow_code: bool = False
) -> tuple[Actor, Checkpoint]:
    """Return the actor of `load_actor`, and its checkpoint. Warn of damaged later checkpoints."""
    _, config, spec = read_run(path)
    if config.run.seeds > 1:
        raise UserError(f"{path} holds {config.run.seeds} seeds: name one, such as {seed_paths(path, config)[0]}")
    check_code([config.network.encoder], allow_code)
    found = load(path, checkpoint)
    for problem in found.passed_over:
        warnings.warn(f"passed over: {problem}", stacklevel=2)
    weights = subdict(subdict(found.model, "network"), "actor")
    # Tensors on "meta" take no memory: sizes in an untrusted config are compared before they are allocated.
    with TorchDefaults(torch.float32), torch.device("meta"):
        expected = build_actor(spec, config.network).state_dict()
    if difference := mismatch(weights, expected):
        raise UserError(f"{found.path} does not fit {path}/config.json: {difference}")
    with TorchDefaults(torch.float32):
        network = build_actor(spec, config.network, torch.Generator())
    network.load_state_dict(weights)
    network.to(device).requires_grad_(False)
    generator = torch.Generator(device)
    generator.manual_seed(0)
    return Actor(Policy(spec, config.network, network, device), sampled, generator), found

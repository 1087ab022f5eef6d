"""The policy of a saved run, in use without an environment or a learner."""

import warnings
from pathlib import Path

import torch

from mappo.core.state_dict import mismatch, subdict
from mappo.errors import UserError
from mappo.networks.actor_critic import build_actor
from mappo.policies.actor import Actor
from mappo.policies.policy import Policy
from mappo.runs.checkpoint import Checkpoint, load
from mappo.runs.directory import read_run, seed_paths


def load_actor(path: str | Path, *, checkpoint: str = "last", sampled: bool = False, device: str = "cpu") -> Actor:
    """The policy of a run, alone: it needs no environment and no config.

    Args:
        path: the run directory. checkpoint: `last` or `best`.
        sampled: draw actions, in place of the likeliest.

    Returns:
        `actor(obs, memory=None, *, mask=None, is_first=None) -> (action, memory)` for the team, see `Actor`;
        `actor.agent(NAME)` is one agent's, with its own observations and actions.

    Raises:
        UserError: there is no run, or its checkpoint is damaged.
    """
    return read_actor(Path(path), checkpoint, sampled, device)[0]


def read_actor(
    path: Path, checkpoint: str = "last", sampled: bool = False, device: str = "cpu"
) -> tuple[Actor, Checkpoint]:
    """As `load_actor`, and the checkpoint that it is of. Warns of damaged ones that were passed over."""
    _, config, spec = read_run(path)
    if config.run.seeds > 1:
        raise UserError(f"{path} holds {config.run.seeds} seeds: name one, such as {seed_paths(path, config)[0]}")
    found = load(path, checkpoint)
    for problem in found.passed_over:
        warnings.warn(f"passed over: {problem}", stacklevel=2)
    weights = subdict(subdict(found.model, "network"), "actor")
    with torch.device("meta"):  # takes no memory, whatever the config asks for
        wanted = build_actor(spec, config.network).state_dict()
    if difference := mismatch(weights, wanted):
        raise UserError(f"{found.path} does not fit {path}/config.json: {difference}")
    tower = build_actor(spec, config.network)
    tower.load_state_dict(weights)
    generator = torch.Generator(device)
    generator.manual_seed(0)
    tower.to(device).requires_grad_(False)
    return Actor(Policy(spec, config.network, tower, device), sampled, generator), found

"""Weights and statistics of a run for the learner of another run: all that fits is taken, the rest is named.

`init_from` calls `transfer` for `run.init_from`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mappo.algorithms.critic_input import make_critic_input
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, NetworkConfig
from mappo.core.spec import Spec
from mappo.errors import UserError, shorten
from mappo.runs.checkpoint import Checkpoint

# Settings that change the meaning of weights, but not their shapes.
_MEANINGS = ("activation", "action_bounds", "channels", "death_mask")
_ACTION_TENSORS = ("network.actor.head.", "network.actor.constants")  # their outputs stand for actions
_ENCODER = "network.actor.encoder."
MAX_NAMED = 6  # misfits named in a message; the others are counted

# An input of a network: kind, size of its vector, agent, and place in the vector. Equal columns mean the same.
Column = tuple[str, int, str, int]


@dataclass(frozen=True)
class Source:
    """A run to start from: its settings, agents and checkpoint."""

    config: Config
    spec: Spec
    checkpoint: Checkpoint


class Transferred(NamedTuple):
    """Result of `transfer`."""

    tensors: dict[str, Tensor]  # all tensors `network.*` and `value_norm.*` of the learner
    misfits: list[str]  # a text for each part that does not fit
    actor_share: float  # of the actor's weights, the share from the source
    reads_alike: bool  # False if some layer of the actor's encoder takes nothing from the source


def transfer(agent: MAPPO, source: Source) -> Transferred:
    """Return the weights and statistics of a learner, taken from a source where they fit.

    A tensor fits if name, shape and dtype are equal. Of the first layer of an MLP the common inputs are taken: the
    weights of new agents' ids, or of new agents' observations in the critic's joint input, stay at their start.

    Args:
        agent: the learner; it is not changed.
        source: the run to start from.

    Raises:
        UserError: the agents share parameters otherwise, or nothing of the actor fits.
    """
    _check_parameter_sets(agent, source)
    tensors = {name: x for name, x in agent.state_dict().items() if name.startswith(("network.", "value_norm."))}
    model = source.checkpoint.model
    inputs = _inputs(agent, source)
    misfits = _other_meanings(agent, source)
    taken: dict[str, Tensor] = {}
    shares: dict[str, float] = {}
    for name, x in tensors.items():
        taken[name], misfit, shares[name] = _take(
            x, model.get(name), *inputs.get(_input_name(name), ([], [])), ".norm." in name
        )
        if misfit:
            misfits.setdefault(_module(name), misfit)
    if _acts(agent.spec) != _acts(source.spec):
        misfits["actor.head"] = "other actions"
        others = {name: x for name, x in tensors.items() if name.startswith(_ACTION_TENSORS)}
        taken |= others
        shares |= dict.fromkeys(others, 0.0)
    for name in model:
        if name not in tensors:
            misfits.setdefault(_module(name), "not in this run")
    texts = [f"{part} ({misfit})" for part, misfit in misfits.items()]
    if not any(shares[name] for name in tensors if name.startswith("network.actor.")):
        raise UserError(
            f"no weight of the actor in {source.checkpoint.path} fits this run: {shorten(texts, MAX_NAMED)}"
        )
    return Transferred(taken, texts, *_actor_shares(agent, shares))


def _actor_shares(agent: MAPPO, shares: Mapping[str, float]) -> tuple[float, bool]:
    """Return `actor_share` and `reads_alike` of a `Transferred`, from the share of each tensor by its name."""
    sizes = {f"network.actor.{name}": x.numel() for name, x in agent.network.actor.named_parameters()}
    actor_share = sum(size * shares[name] for name, size in sizes.items()) / sum(sizes.values())
    return actor_share, all(shares[name] for name in sizes if name.startswith(_ENCODER))


def _take(
    x: Tensor, found: Tensor | None, inputs: list[Column], source_inputs: list[Column], is_norm: bool
) -> tuple[Tensor, str, float]:
    """Return a tensor of the learner with the values of the source, a text if not all of them fit, and their share.

    Args:
        x: the learner's tensor; its last axis stands for `inputs`.
        found: the source's tensor of the same name; its last axis stands for `source_inputs`.
        inputs, source_inputs: the inputs; empty lists for tensors of other axes.
        is_norm: the tensor belongs to running statistics, which count rows of all inputs in common.
    """
    if found is None:
        return x, "not in the source", 0.0
    if inputs == source_inputs:
        does_fit = found.shape == x.shape and found.dtype == x.dtype
        return (found, "", 1.0) if does_fit else (x, f"{tuple(found.shape)} there, {tuple(x.shape)} here", 0.0)
    places = {column: place for place, column in enumerate(source_inputs)}
    common = [place for place, column in enumerate(inputs) if column in places]
    if is_norm or not common or found.dtype != x.dtype or found.shape != (*x.shape[:-1], len(source_inputs)):
        return x, f"other inputs: {len(source_inputs)} there, {len(inputs)} here", 0.0
    result = x.clone()
    result[..., common] = found[..., [places[inputs[place]] for place in common]].to(x.device)
    if len(common) < len(inputs):
        return result, f"{len(common)} of {len(inputs)} inputs", len(common) / len(inputs)
    unused = len(source_inputs) - len(inputs)
    return result, f"{unused} of {len(source_inputs)} inputs of the source not used" if unused else "", 1.0


def _inputs(agent: MAPPO, source: Source) -> dict[str, tuple[list[Column], list[Column]]]:
    """Return the inputs of the learner and of the source, by the name of the layer or statistics that reads them."""
    is_user = source.config.network.critic_input == "user"
    modes = (agent.critic_input.mode, "user" if is_user else make_critic_input(source.spec, source.config).mode)
    sides = ((agent.spec, agent.config.network), (source.spec, source.config.network))
    actor = [_actor_inputs(*side) for side in sides]
    observation = [_own_inputs(spec) for spec, _ in sides]
    critic = [_critic_inputs(mode, *side) for mode, side in zip(modes, sides, strict=True)]
    pairs = {"actor": actor, "actor.norm": observation, "critic": critic, "critic.norm": critic}
    return {name: (pair[0], pair[1]) for name, pair in pairs.items() if all(pair)}


def _own_inputs(spec: Spec) -> list[Column]:
    """Return the numbers of an agent's observation; none for an image."""
    size = spec.obs_shape[-1]
    return [("own", size, "", place) for place in range(size)] if len(spec.obs_shape) == 1 else []


def _actor_inputs(spec: Spec, settings: NetworkConfig) -> list[Column]:
    observation = _own_inputs(spec)
    has_id = bool(observation) and spec.needs_agent_id(settings.sharing, settings.agent_id)
    return observation + (_ids(spec) if has_id else [])


def _critic_inputs(mode: str, spec: Spec, settings: NetworkConfig) -> list[Column]:
    """Return the inputs of a critic, see `CriticInput`; none for images and for a function of the user."""
    observation = _own_inputs(spec)
    size = 0 if spec.state_shape is None else math.prod(spec.state_shape)
    state: list[Column] = [("state", size, "", place) for place in range(size)]
    joint = [("joint", len(observation), name, place) for name in spec.agents for place in range(len(observation))]
    agent = [*(state or joint), *observation, *_ids(spec)] if observation else []
    return {"env": state, "joint": joint, "own": _actor_inputs(spec, settings), "agent": agent}.get(mode, [])


def _ids(spec: Spec) -> list[Column]:
    return [("id", 0, name, 0) for name in spec.agents]


def _input_name(name: str) -> str:
    """Return the key of `_inputs` for the name of a tensor whose last axis stands for inputs; "" for all others."""
    network, _, layer = name.removeprefix("network.").partition(".")
    if layer in ("norm.count", "norm.mean", "norm.square"):
        return f"{network}.norm"
    is_first = layer in ("encoder.layers.0.weight", "encoder.norms.0.weight", "encoder.norms.0.bias")
    return network if is_first else ""


def _module(name: str) -> str:
    """Return the part of the networks that a tensor belongs to, as messages name it."""
    return name.removeprefix("network.").rpartition(".")[0]


def _acts(spec: Spec) -> tuple[tuple[int, ...], int]:
    return spec.heads, spec.continuous


def _other_meanings(agent: MAPPO, source: Source) -> dict[str, str]:
    """Return the settings that give weights of equal shapes another meaning."""
    settings = agent.config.network
    source_settings = source.config.network
    misfits = {
        f"network.{name.replace('_', '-')}": f"{getattr(source_settings, name)} there, {getattr(settings, name)} here"
        for name in _MEANINGS
        if getattr(settings, name) != getattr(source_settings, name)
    }
    if agent.spec.obs_shape == source.spec.obs_shape and _scales(agent.spec) != _scales(source.spec):
        misfits["observations"] = "divided by other bounds"
    return misfits


def _scales(spec: Spec) -> set[tuple[float, ...]]:
    return {part.scale for parts in spec.obs_parts for part in parts}


def _check_parameter_sets(agent: MAPPO, source: Source) -> None:
    """Raise a UserError if the agents of both runs do not share their parameters alike."""
    sets = _sets(agent.spec, agent.config.network)
    source_sets = _sets(source.spec, source.config.network)
    run = source.checkpoint.path.parent.parent
    advice = "agents must share parameters alike (network.sharing)"
    sizes = [len(set(found.values())) for found in (source_sets, sets)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"number of parameter sets: {run} has {sizes[0]} for its {len(source_sets)} agents, this run has "
            f"{sizes[1]} for {len(sets)}; {advice}"
        )
    for name, index in sets.items():
        if source_sets.get(name, index) != index:
            raise UserError(f"{run} gives {name} its set of parameters {source_sets[name]}, this run {index}: {advice}")


def _sets(spec: Spec, settings: NetworkConfig) -> Mapping[str, int]:
    return dict(zip(spec.agents, spec.parameter_sets(settings.sharing), strict=True))

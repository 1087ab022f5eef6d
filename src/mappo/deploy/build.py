"""Building of an `AgentPolicy` from a team's policy: the agent's own numbers, sliced out and copied."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from mappo.core.observations import is_channels_first
from mappo.core.spec import Spec
from mappo.deploy.agent_policy import AgentPolicy
from mappo.deploy.convert import convert_encoder, to_layer_norm, to_linear
from mappo.deploy.layers import GRUCell, Reader
from mappo.networks.network import Network
from mappo.networks.normalizers import RunningNorm
from mappo.policies.action_distribution import ActionDistribution
from mappo.policies.policy import Policy


@torch.no_grad()
def build_agent_policy(policy: Policy, agent: int) -> AgentPolicy:
    """Build the policy of an agent, in float32 on the CPU; the tensors are copies.

    Args:
        policy: the team's.
        agent: the agent's index in the team.

    Raises:
        UserError: a user's encoder holds the parameters of several agents.
    """
    spec = policy.spec
    network = copy.deepcopy(policy.network.for_agent(agent)).to("cpu")
    constants = _constants(spec, network, agent)
    encoder, constants = convert_encoder(network.encoder, constants, spec.agents[agent])
    gru = network.gru
    heads = spec.action_heads[agent]
    alone = Spec(spec.agents[agent : agent + 1], spec.obs_spaces[agent : agent + 1], (heads,))
    distribution = ActionDistribution(alone, policy.network_config)
    distribution.apply_(torch.clone)  # views of a table: torch.export.save warns of them
    return AgentPolicy(
        _make_reader(policy, network, agent, constants),
        encoder,
        None if gru is None else GRUCell(to_linear(gru.input), to_linear(gru.hidden)),
        None if network.gru_norm is None else to_layer_norm(network.gru_norm),
        to_linear(network.head, _head_rows(spec, agent, network.head.weight.shape[-2])),
        network.constants[0, : heads.continuous].clone() if network.constants is not None and heads.low else None,
        heads,
        distribution,
    ).eval()


def _constants(spec: Spec, network: Network, agent: int) -> Tensor | None:
    """Return the input behind the agent's own numbers: the padding as the encoder reads it, and the agent's id."""
    constants: list[Tensor] = []
    if len(spec.obs_shape) == 1:
        row = network.preprocess(torch.zeros(1, 1, *spec.obs_shape))
        constants.append(row[0, 0, spec.obs_size(agent) :].to(torch.float32))
    if network.ids is not None:
        constants.append(network.ids[0].to(torch.float32))
    joined = torch.cat(constants) if constants else torch.zeros(0)
    return joined if joined.numel() else None


def _make_reader(policy: Policy, network: Network, agent: int, constants: Tensor | None) -> Reader:
    spec = policy.spec
    inputs = spec.obs_inputs[agent]
    reader = network.reader
    is_image = len(spec.obs_shape) == 3
    number = reader.bytes_scale if spec.observes_bytes and reader.bytes_scale else reader.number
    size = 1 if is_image else spec.obs_size(agent)
    divisor = torch.tensor([number]) if number else reader.divisor.reshape(-1)[:size].clone()
    if is_image:
        shape = cast("tuple[int, ...]", spec.obs_spaces[agent].shape)
        channels_first = is_channels_first(shape, policy.network_config.channels)
        return Reader(inputs, divisor, is_image=True, channels_first=channels_first, constants=constants)
    mean, scale = (None, None) if network.norm is None else _statistics(network.norm, size)
    is_pixel = None if network.pixels is None else network.pixels[0, :size].clone()
    if is_pixel is not None and is_pixel.all():  # nothing is normalised
        mean = None
        scale = None
        is_pixel = None
    return Reader(inputs, divisor, mean=mean, scale=scale, is_pixel=is_pixel, constants=constants)


def _statistics(norm: RunningNorm, size: int) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation of the agent's own numbers."""
    mean, scale = norm.mean_scale()
    return mean[0, :size].to(torch.float32), scale[0, :size].to(torch.float32)


def _head_rows(spec: Spec, agent: int, size: int) -> Sequence[int]:
    """Return the outputs of the team's head that belong to the agent: its choices, means and log deviations."""
    num_logits = sum(spec.heads)
    starts = range(num_logits, size, spec.continuous) if spec.continuous else ()
    count = spec.action_heads[agent].continuous
    return [*spec.choice_indices(agent), *(start + j for start in starts for j in range(count))]

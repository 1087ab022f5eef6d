"""Steps of real episodes with the answers of the saved actor, agent by agent: what every exported file must answer."""

import copy

import numpy as np
import torch
from torch import Tensor

from mappo.core.observations import is_channels_first
from mappo.core.protocols import Environment
from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep
from mappo.networks.input_reader import unflatten_inputs
from mappo.policies.policy import Policy

STEPS = 1000
# Steps of the environment, per recorded step, after which the record of an agent that seldom acts stays short.
PATIENCE = 4

Arrays = dict[str, np.ndarray]


def record_steps(env: Environment, policy: Policy, num_steps: int = STEPS, seed: int = 0) -> list[Arrays]:
    """Play episodes, greedy and sampled in turn, and record each agent's inputs and answers where it acts.

    An episode of more than half of the steps is cut off by a reset: the record holds more than one episode.

    Args:
        env: a single environment, `num_envs` 1.
        policy: the team's; it acts in float32.
        num_steps: steps to record of each agent.
        seed: reset seed of the first episode.

    Returns:
        For each agent, inputs and outputs by the names of `AgentPolicy`, `(n, ...)`, with n at most `num_steps`.
    """
    recorders = [_AgentRecorder(policy, agent, seed) for agent in range(policy.spec.num_agents)]
    step = env.reset(seed)
    is_sampled = False
    length = 0
    for _ in range(PATIENCE * num_steps):
        action = torch.zeros(1, policy.spec.num_agents, policy.spec.action_size, dtype=policy.spec.action_dtype)
        for agent, recorder in enumerate(recorders):
            if step.active[0, agent]:
                action[0, agent] = recorder.act(step, is_sampled)
        if min(len(recorder.rows) for recorder in recorders) >= num_steps:
            break
        step = env.step(action.to(env.device))
        length += 1
        if length >= num_steps // 2 and not step.ended[0]:
            seed += 1
            step = env.reset(seed)
        elif not step.ended[0]:
            continue
        is_sampled = not is_sampled
        length = 0
    return [recorder.arrays(num_steps) for recorder in recorders]


class _AgentRecorder:
    """Acts for an agent as the saved actor does, and records.

    Args:
        policy: the team's.
        agent: the agent's index.
        seed: of the noise.
    """

    def __init__(self, policy: Policy, agent: int, seed: int) -> None:
        self.policy = float32_policy(policy.for_agent(agent))
        self.spec = policy.spec
        self.agent = agent
        self.generator = torch.Generator().manual_seed(seed * self.spec.num_agents + agent)
        self.memory: Tensor | None = None
        self.rows: list[dict[str, Tensor]] = []

    def act(self, step: TimeStep, is_sampled: bool) -> Tensor:
        """Return the action in the padded layout, `(D,)`."""
        spec = self.spec
        index = slice(self.agent, self.agent + 1)
        obs = step.obs[:, index].cpu()
        mask = None if step.mask is None else step.mask[:, index].cpu()
        is_first = step.is_first[:, index].cpu()
        columns = spec.action_columns(self.agent)
        noise = torch.full((1, 1, spec.action_size), 0.5)
        noise[..., columns] = torch.rand(len(columns), generator=self.generator)
        width = self.policy.network_config.memory_size
        memory = torch.zeros(1, 1, width) if self.memory is None else self.memory
        record, self.memory, *actions = respond(self.policy, self.agent, obs, mask, memory, is_first, noise)
        self.rows.append({name: x[0] for name, x in record.items()})
        return actions[is_sampled][0, 0]

    def arrays(self, num_steps: int) -> Arrays:
        """Return the first rows, by name."""
        rows = self.rows[:num_steps]
        return {name: torch.stack([row[name] for row in rows]).numpy() for name in rows[0]} if rows else {}


@torch.no_grad()
def respond(
    policy: Policy, agent: int, obs: Tensor, mask: Tensor | None, memory: Tensor, is_first: Tensor, noise: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """Act as the saved actor does.

    Args:
        policy: of the agent alone, see `Policy.for_agent`.
        agent: the agent's index in the team.
        obs: `(B, 1, *obs_shape)`, padded.
        mask: `(B, 1, N)`; None where everything is legal.
        memory: `(B, 1, H)`; H is 0 without a memory.
        is_first: `(B, 1)`.
        noise: `(B, 1, D)`.

    Returns:
        Inputs and outputs of the agent's own file by name, `(B, ...)`; the memory `(B, 1, H)`; the greedy and the
        sampled action in the padded layout, `(B, 1, D)`.
    """
    spec = policy.spec
    heads = spec.action_heads[agent]
    columns = spec.action_columns(agent)
    distribution = policy.distribution
    has_memory = memory.shape[-1] > 0
    network = policy.network
    dist_params, memory_out = network.step(network.preprocess(obs), memory if has_memory else None, is_first)
    legal = distribution.legal_choices(mask)
    greedy = distribution.to_bounds(distribution.mode(dist_params, legal))
    sampled = distribution.to_bounds(distribution.sample(dist_params, noise, legal)[0])
    record = own_inputs(spec, agent, obs[:, 0])
    if heads.categorical:
        choices = spec.choice_indices(agent)
        record["mask"] = torch.ones(len(obs), len(choices)).bool() if mask is None else mask[:, 0, choices]
    if has_memory:
        record |= {"memory": memory[:, 0], "is_first": is_first[:, 0], "memory_out": memory_out[:, 0]}
    record["noise"] = noise[:, 0, columns]
    record |= own_outputs(spec, agent, dist_params[:, 0])
    actions = {"action": greedy, "sampled_action": sampled}
    record |= {name: heads.to_space_action(x[:, 0, columns]) for name, x in actions.items()}
    return record, memory_out if has_memory else memory, greedy, sampled


def float32_policy(policy: Policy) -> Policy:
    """Return a policy on the CPU that computes in float32, whatever it was trained in."""
    policy = copy.copy(policy)
    policy.network = copy.deepcopy(policy.network).to("cpu")
    policy.network.uses_bf16 = False
    policy.distribution = copy.copy(policy.distribution)
    policy.distribution.apply_(lambda x: x.cpu())
    return policy


def own_inputs(spec: Spec, agent: int, obs: Tensor) -> dict[str, Tensor]:
    """Return the arrays of an agent's own observation, by name, from padded observations `(B, *obs_shape)`."""
    inputs = spec.obs_inputs[agent]
    if len(spec.obs_shape) == 3:
        shape = spec.obs_spaces[agent].shape or ()
        return {inputs[0].name: obs.movedim(-1, -3) if is_channels_first(shape) else obs}
    return dict(zip((x.name for x in inputs), unflatten_inputs(inputs, obs), strict=True))


def own_outputs(spec: Spec, agent: int, dist_params: Tensor) -> dict[str, Tensor]:
    """Return an agent's own logits, means and log standard deviations from padded outputs `(B, ...)`."""
    num_logits = sum(spec.heads)
    heads = spec.action_heads[agent]
    outputs: dict[str, Tensor] = {}
    if heads.categorical:
        outputs["logits"] = dist_params[:, spec.choice_indices(agent)]
    if heads.continuous:
        for place, name in enumerate(("mean", "log_std")):
            start = num_logits + place * spec.continuous
            outputs[name] = dist_params[:, start : start + heads.continuous]
    return outputs

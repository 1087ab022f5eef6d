"""One agent's policy, complete in itself, answers as the saved actor does."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.testing import assert_close

from mappo.deploy.build import build_agent_policy
from mappo.deploy.normal_quantile import normal_quantile
from mappo.envs.vector.team_layout import TeamLayout
from mappo.networks.input_reader import flatten_inputs
from teams import TEAMS, own_inputs, random_actor


def nested(policy: Any, inputs: dict[str, Tensor]) -> Any:
    """The observation as the environment returns it."""
    arrays = policy.reader.inputs
    if not arrays[0].path:
        return inputs["obs"]
    observation: dict[Any, Any] = {}
    for array in arrays:
        place: dict[Any, Any] = observation
        for key in array.path[:-1]:
            place = place.setdefault(key, {})
        place[array.path[-1]] = inputs[array.name]
    return observation


@pytest.mark.parametrize("kind", TEAMS)
@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-5), (1e4, 1e-3)])
def test_it_answers_as_the_saved_actor_does(kind: str, scale: float, tolerance: float):
    team = TEAMS[kind]
    spec = TeamLayout(team.make()).spec
    actor = random_actor(spec, **team.network | {"precision": "float32"})
    for index, name in enumerate(spec.agents):
        policy = build_agent_policy(actor.policy, index)
        alone = actor.agent(name)
        inputs = own_inputs(policy, 200, index, scale)
        outputs = policy(inputs)
        rest = {key: inputs.get(key) for key in ("mask", "is_first")}
        action, memory = alone(nested(policy, inputs), inputs.get("memory"), **rest)
        assert outputs["action"].dtype == action.dtype
        assert_close(outputs["action"], action, rtol=tolerance, atol=tolerance)
        if memory is not None:
            assert_close(outputs["memory_out"], memory, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["discrete-masks", "box-clip", "box-tanh", "unequal", "unequal-all"])
def test_its_samples_are_those_of_training(kind: str):
    team = TEAMS[kind]
    spec = TeamLayout(team.make()).spec
    actor = random_actor(spec, **team.network)
    for index in range(spec.num_agents):
        policy = build_agent_policy(actor.policy, index)
        inputs = own_inputs(policy, 200, index)
        padded = torch.zeros(200, spec.num_agents, *spec.obs_shape)
        flat = flatten_inputs(policy.reader.inputs, [inputs[array.name] for array in policy.reader.inputs])
        padded[:, index, : flat.shape[-1]] = flat
        mask = torch.zeros(200, spec.num_agents, sum(spec.heads), dtype=torch.bool) | spec.static_mask_tensor
        if "mask" in inputs:
            mask[:, index, spec.choice_indices(index)] = inputs["mask"]
        noise = torch.full((200, spec.num_agents, spec.action_size), 0.5)
        noise[:, index, spec.action_columns(index)] = inputs["noise"]
        action, _, _ = actor.policy(padded, mask=mask, noise=noise)
        action = actor.policy.distribution.to_bounds(action)[:, index, spec.action_columns(index)]
        expected = spec.action_heads[index].to_space_action(action)
        assert_close(policy(inputs)["sampled_action"], expected, rtol=1e-5, atol=1e-5)
        assert not torch.equal(expected, policy(inputs)["action"])


@pytest.mark.parametrize("sharing", ["group", "all", "none"])
def test_it_holds_nothing_of_the_others(sharing: str):
    """Other agents' parameters, statistics and ids may be anything: no number of this agent's policy changes."""
    team = TEAMS["unequal"]
    spec = TeamLayout(team.make()).spec
    actor = random_actor(spec, sharing=sharing, obs_norm=True, agent_id=True)
    network = actor.policy.network
    index = 1
    before = [x.clone() for x in build_agent_policy(actor.policy, index).state_dict().values()]
    assert sum(x.numel() for x in before) < sum(x.numel() for x in network.state_dict().values())
    own_set = spec.parameter_sets(sharing)[index]
    with torch.no_grad():
        for p in network.parameters():
            if sharing != "all":
                p[[s for s in range(len(p)) if s != own_set]] = torch.nan
        others = [a for a in range(spec.num_agents) if a != index]
        first = network.encoder.layers[0].weight
        first[..., spec.obs_shape[0] + torch.tensor(others)] = torch.nan  # columns of the ids
        for x in (network.norm.mean, network.norm.square):
            x[[g for g in range(len(x)) if g != spec.groups[index]]] = torch.nan
    after = build_agent_policy(actor.policy, index).state_dict().values()
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_an_agent_is_a_module_of_its_own():
    spec = TeamLayout(TEAMS["unequal"].make()).spec
    actor = random_actor(spec, obs_norm=True)
    obs = torch.randn(3, 4)
    alone = actor.agent("walker")
    assert isinstance(alone, torch.nn.Module)
    action, _ = alone(obs)
    size = sum(p.numel() for p in alone.parameters())
    assert 0 < size < sum(p.numel() for p in actor.policy.network.parameters())
    double = actor.agent("walker").double()
    answer, _ = double(obs.double())
    assert answer.dtype == torch.float64
    assert_close(answer.float(), action, rtol=1e-5, atol=1e-5)
    assert {p.dtype for p in actor.policy.network.parameters()} == {torch.float32}
    with torch.no_grad():
        for p in double.parameters():
            p.zero_()
    assert torch.equal(alone(obs)[0], action)


def test_an_agent_takes_the_environments_own_observation_or_a_flat_one():
    team = TEAMS["dict"]
    env = team.make()
    actor = random_actor(TeamLayout(env).spec, **team.network)
    observations, _ = env.reset(seed=3)
    robot = actor.agent("robot")
    space = env.observation_space("robot")
    action, _ = robot(observations["robot"])
    flat, _ = robot(spaces.flatten(space, observations["robot"]))
    assert torch.equal(action, flat)
    assert env.action_space("robot").contains(action.numpy()[()])
    masked = dict(observations["robot"]) | {"action_mask": np.eye(5, dtype=np.int8)[4]}
    assert robot(masked)[0] == 7
    with pytest.raises(ValueError, match=r"robot reads obs\.view, .*, but 'obs\.place' is not in its observation"):
        robot({key: x for key, x in observations["robot"].items() if key != "place"})
    with pytest.raises(ValueError, match=r"robot reads obs\.place \('\*B', 3\), got \(4,\)"):
        robot(dict(observations["robot"]) | {"place": np.zeros(4)})
    wrapped = {"observation": np.zeros(4, np.float32), "action_mask": np.eye(5, dtype=np.int8)[2]}
    assert actor.agent("sensor")(wrapped)[0] == 5


def test_the_quantile_function_is_the_normal_distributions():
    p = torch.cat([torch.linspace(0, 1, 100_001)[:-1], torch.tensor([0.0, 2.0**-25, 1e-6, 1 - 2.0**-24, 0.075, 0.925])])
    expected = torch.special.ndtri(p.double().clamp_min(2.0**-25))
    assert_close(normal_quantile(p.double()), expected, rtol=1e-6, atol=2e-7)
    assert_close(normal_quantile(p), expected.float(), rtol=1e-5, atol=1e-6)

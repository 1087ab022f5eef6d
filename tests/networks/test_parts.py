"""Observations with images among their parts: what networks read of them, against a plain computation."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.testing import assert_close

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.observations import ObsPart
from mappo.core.spec import ActionHeads, Spec
from mappo.errors import UserError
from mappo.networks.cnn import CNN, PartsEncoder
from mappo.networks.input_reader import obs_reader, state_reader
from mappo.networks.mlp import MLP

HEADS = (ActionHeads((3,)),)


def team(*parts: tuple[ObsPart, ...], dtype: Any = np.float32, **spec: Any) -> Spec:
    """Agents that observe flat vectors with these parts."""
    see = tuple(spaces.Box(0, 255, (sum(part.size for part in own),), dtype) for own in parts)
    return Spec(tuple("abcde"[: len(parts)]), see, HEADS * len(parts), obs_parts=parts, **spec)


def learner(spec: Spec, critic: str = "auto", reward: Any = "team", **network: Any) -> MAPPO:
    settings: Any = {"hidden": (8, 6), "actor_gain": 1.0, "critic_input": critic} | network
    return MAPPO(spec, Config(EnvConfig(2, reward=reward), NetworkConfig(**settings), PPOConfig(rollout_length=4)))


CAMERA = (ObsPart((2,), (4.0, 1.0)), ObsPart((5, 6, 3), (255.0,)), ObsPart((5, 6), (9.0,)))
SENSOR = (ObsPart((7,)),)
SIZE = 2 + 5 * 6 * 3 + 5 * 6


def branches(encoder: PartsEncoder, *images: Tensor, numbers: Tensor) -> Tensor:
    """The features by hand: images of one size stacked along their channels."""
    cnn, mlp, join = encoder.cnns[0], encoder.mlp, encoder.join
    assert isinstance(cnn, CNN)
    assert isinstance(mlp, MLP)
    assert isinstance(join, MLP)
    return join(torch.cat([cnn(torch.cat(images, -1)), mlp(numbers)], -1))


@pytest.mark.parametrize("channels", ["auto", "last", "first"])
def test_each_part_goes_into_its_branch_divided_by_its_bounds(channels: Any):
    spec = team(CAMERA, SENSOR)
    actor = learner(spec, channels=channels).network.actor
    raw = (torch.rand(4, 2, SIZE) * 200).round()
    raw[:, 1, 7:] = 0
    output = actor.step(actor.preprocess(raw))[0]
    camera = raw[:, 0]
    colour = (camera[:, 2:92] / 255).reshape(4, 5, 6, 3)
    colour = colour.movedim(1, -1) if channels == "first" else colour
    grey = (camera[:, 92:] / 9).reshape(4, 5, 6, 1)
    first: Any = actor.encoder.sets[0]
    if channels == "first":  # the images are 6 x 3 and 5 x 6: of two sizes
        features = torch.cat(
            [first.cnns[0](colour), first.cnns[1](grey), first.mlp(camera[:, :2] / torch.tensor([4.0, 1.0]))], -1
        )
        features = first.join(features)
    else:
        features = branches(first, colour, grey, numbers=camera[:, :2] / torch.tensor([4.0, 1.0]))
    head = actor.head
    assert_close(output[:, 0], features @ head.weight[0].T + head.bias[0])
    # The agent without images reads its numbers, and the padding behind them.
    second: Any = actor.encoder.sets[1]
    assert second.join is None
    assert_close(output[:, 1], second.mlp(raw[:, 1]) @ head.weight[1].T + head.bias[1])


def test_an_encoder_reads_each_part_at_its_place():
    parts = (ObsPart((3,)), ObsPart((4, 5)), ObsPart((2,)))
    encoder = PartsEncoder(parts, NetworkConfig((8,)))
    x = torch.rand(6, 25)
    expected = branches(encoder, x[:, 3:23].reshape(6, 4, 5, 1), numbers=torch.cat([x[:, :3], x[:, 23:]], -1))
    assert_close(encoder(x), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("critic", "rows"), [("joint", 1), ("own", 2), ("agent", 2)])
@pytest.mark.parametrize("network", [{}, {"memory_size": 4, "obs_norm": True, "agent_id": True, "layer_norm": True}])
def test_critics_read_images_beside_numbers(dtype: Any, critic: str, rows: int, network: Any):
    spec = team(CAMERA, SENSOR, dtype=dtype)
    agent = learner(spec, critic, **network)
    obs = (torch.rand(4, 2, SIZE) * 8).to(spec.obs_dtype)
    active = torch.ones(4, 2, dtype=torch.bool)

    def value(obs: Tensor) -> Tensor:
        with torch.no_grad():
            net = agent.network.critic
            return net.step(net.preprocess(agent.critic.build_input(obs, None, active)))[0].reshape(4, rows)

    before = value(obs)
    for column, who in ((0, 0), (30, 0), (SIZE - 1, 0), (3, 1)):
        changed = obs.clone()
        changed[:, who, column] += 1
        moved = (value(changed) != before).any(0).tolist()
        assert moved == ([row == who for row in range(2)] if critic == "own" else [True] * rows)


def test_the_critic_stacks_the_images_of_a_team():
    agent = learner(team(CAMERA, CAMERA), "joint")
    encoder: Any = agent.network.critic.encoder
    (cnn,) = encoder.cnns
    assert cnn.convolutions[0].in_channels == 2 * (3 + 1)
    raw = (torch.rand(4, 2, SIZE) * 200).round()
    rows = agent.critic.build_input(raw, None, torch.ones(4, 2, dtype=torch.bool))
    images = [
        image
        for a in range(2)
        for image in ((raw[:, a, 2:92] / 255).reshape(4, 5, 6, 3), (raw[:, a, 92:] / 9).reshape(4, 5, 6, 1))
    ]
    numbers = (raw[..., :2] / torch.tensor([4.0, 1.0])).flatten(1)
    assert_close(
        agent.network.critic.encode(agent.network.critic.preprocess(rows)), branches(encoder, *images, numbers=numbers)
    )


def test_a_state_has_parts_too():
    parts = (ObsPart((5, 6, 3), (255.0,)), ObsPart((2,), (4.0,)))
    agent = learner(team(SENSOR, SENSOR, state_shape=(92,), state_parts=parts))
    assert agent.critic_input.mode == "env"
    state = (torch.rand(4, 92) * 200).round()
    rows = agent.critic.build_input(torch.zeros(4, 2, 7), state, torch.ones(4, 2, dtype=torch.bool))
    encoder: Any = agent.network.critic.encoder
    image = (state[:, :90] / 255).reshape(4, 5, 6, 3)
    assert_close(agent.network.critic.encode(rows), branches(encoder, image, numbers=state[:, 90:] / 4))


@pytest.mark.parametrize("critic", ["joint", "own", "agent"])
@pytest.mark.parametrize("bound", [(5, 5), (5, 255)])
def test_images_of_integers_are_divided_by_their_bound(critic: str, bound: tuple[int, int]):
    see = tuple(spaces.Box(0, high, (7, 6, 3), np.uint8) for high in bound)
    agent = learner(Spec(("a", "b"), see, HEADS * 2), critic)
    raw = torch.stack([torch.randint(high + 1, (4, 7, 6, 3)) for high in bound], 1).byte()
    actor, critic_net = agent.network.actor, agent.network.critic
    fractions = raw / torch.tensor(bound).reshape(2, 1, 1, 1)
    assert_close(actor(actor.preprocess(raw))[0], actor(fractions)[0])
    active = torch.ones(4, 2, dtype=torch.bool)
    rows = critic_net.preprocess(agent.critic.build_input(raw, None, active))
    assert (rows.dtype == torch.uint8) == (bound == (5, 5))  # bytes stay bytes
    assert_close(critic_net(rows)[0], critic_net(agent.critic_input(fractions, None, active))[0])


def test_one_scale_for_each_agent_and_each_number():
    see = (
        spaces.Box(0, 5, (2,), np.uint8),
        spaces.Box(np.zeros(3, np.uint8), np.array([9, 255, 0], np.uint8), dtype=np.uint8),
    )
    spec = Spec(("a", "b"), see, HEADS * 2)
    agent = learner(spec, sharing="all")
    raw = torch.tensor([[5, 1, 0], [9, 51, 7]], dtype=torch.uint8)
    expected = torch.tensor([[1, 0.2, 0], [1, 0.2, 7]])
    assert_close(agent.network.actor.preprocess(raw), expected)
    assert agent.network.actor.needs_agent_axis
    alone = agent.network.actor.for_agent(1)
    assert_close(alone.preprocess(raw[1:]), expected[1:])
    rows = agent.critic.build_input(raw, None, torch.tensor([True, False]))
    assert_close(rows, torch.tensor([1, 0.2, 0, 0, 0, 0]))


def test_the_channels_may_be_said():
    see = (spaces.Box(0, 1, (5, 7, 6), np.float32),) * 2
    spec = Spec(("a", "b"), see, HEADS * 2, state_shape=(4, 5, 2))
    raw = torch.rand(3, 2, 5, 7, 6)
    given = spec.to_channels_last(raw)  # the environments' guess: five channels first
    for channels, expected in (("auto", raw.movedim(-3, -1)), ("first", raw.movedim(-3, -1)), ("last", raw)):
        reader = obs_reader(spec, channels)  # pyright: ignore
        assert torch.equal(reader(given, torch.float32), expected)
        assert reader.shape == expected.shape[2:]
        agent = learner(spec, "joint", channels=channels)
        assert agent.critic_input.shape == (*expected.shape[2:-1], 2 * expected.shape[-1])
        agent.network.actor(agent.network.actor.preprocess(given))
    assert state_reader(spec, "first").shape == (5, 2, 4)
    assert state_reader(spec).shape == state_reader(spec, "last").shape == (4, 5, 2)


def test_agents_of_other_parts_do_not_share_parameters():
    spec = team(CAMERA, SENSOR)
    with pytest.raises(UserError, match=r"share parameters: use network\.sharing group or none, or network\.encoder m"):
        learner(spec, sharing="all")
    assert isinstance(learner(spec, sharing="all", encoder="mlp").network.actor.encoder, MLP)
    assert len(learner(team(CAMERA, CAMERA), sharing="none").network.actor.encoder.sets) == 2  # pyright: ignore


def test_pixels_have_no_statistics():
    agent = learner(team(CAMERA, SENSOR), "own", obs_norm=True)
    raw = (torch.rand(50, 2, SIZE) * 200).round()
    raw[:, 1, 7:] = 0
    active = torch.ones(50, 2, dtype=torch.bool)
    actor = agent.network.actor
    assert actor.norm is not None
    actor.norm.update(actor.reader(raw, torch.float32), active)
    x = actor.preprocess(raw)
    assert_close(x[:, 0, 2:92], raw[:, 0, 2:92] / 255)
    assert_close(x[:, 0, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(x[:, 1, :7].std(0, correction=0), torch.ones(7), atol=1e-3, rtol=0)
    alone = actor.for_agent(0)
    assert_close(alone.preprocess(raw[:, :1]), x[:, :1])

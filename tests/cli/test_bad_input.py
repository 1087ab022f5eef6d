"""What users get wrong with teams, environments, networks and saved actors: one message that says what and where.

Nothing here may be taken in silence, for a wrong number would come of it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

import mappo
from chaos import Chaos
from mappo.algorithms.mappo import MAPPO
from mappo.cli import main as cli
from mappo.config import Config
from mappo.core.timestep import TimeStep
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.networks.encoders import ENCODERS
from mappo.rollouts.collector import Collector

SMALL = {
    "env": {"num_envs": 2, "workers": 0},  # processes take seconds to start
    "network": {"hidden": (8,)},
    "ppo": {"rollout_length": 4, "epochs": 1},
    "run": {"total_steps": 8, "eval_episodes": 2, "progress": "off"},
}


def small(path: Path, **network: Any) -> Config:
    config = Config.from_dict(SMALL)
    return replace(config, network=replace(config.network, **network), run=replace(config.run, dir=str(path)))


class Game:
    """A ParallelEnv whose first agent is paid for its action, and the others pay for theirs."""

    def __init__(self, names: Any = ("left", "right"), sizes: Any = None, length: int = 4, **spoilt: Any) -> None:
        self.possible_agents, self.spoilt, self.length = list(names), spoilt, length
        self.sizes = sizes or [3] * len(self.possible_agents)
        self.agents: list[Any] = []
        self.clock = 0

    def observation_space(self, agent: Any) -> spaces.Space[Any]:
        return self.spoilt.get("space", spaces.Box(-1, 1, (2,), np.float32))

    def action_space(self, agent: Any) -> spaces.Space[Any]:
        return spaces.Discrete(self.sizes[self.possible_agents.index(agent)])

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.clock = list(self.possible_agents), 0
        return self._look(), {a: self.spoilt.get("info", {}) for a in self.agents}

    def step(self, actions: dict[Any, Any]) -> Any:
        self.clock += 1
        over = self.clock >= self.length
        told = list(self.agents)
        reward = self.spoilt.get("reward", float)
        rewards = {a: reward(actions[a] if a == "left" else -actions[a]) for a in told}
        dead = {a: a in self.spoilt.get("dead", ()) for a in told}
        look, infos = self._look(), {a: self.spoilt.get("info", {}) for a in told}
        if over:
            self.agents = []
            look = {} if self.spoilt.get("forgets") else look
        return look, rewards, dead, dict.fromkeys(told, over), infos

    def close(self) -> None:
        pass

    def _look(self) -> dict[Any, Any]:
        return {a: self.spoilt.get("see", np.zeros(2, np.float32)) for a in self.agents}


def played(env: SerialEnvs, steps: int = 6) -> list[TimeStep]:
    action = torch.zeros(env.num_envs, env.spec.num_agents, env.spec.action_size, dtype=torch.long)
    return [env.reset(0), *(env.step(action) for _ in range(steps))]


# Another environment than that of the run


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: Game(("left", "middle")), "the agents are .*left.*right.* there and .*left.*middle.* here"),
        (lambda: Game(sizes=[4, 3]), "they act by"),
        (lambda: Game(space=spaces.Box(-1, 1, (3,)), see=np.zeros(3, np.float32)), "they observe arrays of"),
    ],
)
def test_a_policy_does_not_play_or_go_on_in_another_environment(other: Any, message: str, tmp_path: Path):
    config = small(tmp_path / "run", sharing="none")
    run = mappo.train(Game, config)
    assert run.evaluate(4, env=Game)["episodes"] == 4
    with pytest.raises(UserError, match=message):
        run.evaluate(4, env=other)

    other.__name__ = "Game"
    with pytest.raises(UserError, match=message):
        mappo.train(other, config, resume=True)


def test_runs_of_ones_own_environment_say_where_they_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = mappo.train(Game, small(tmp_path / "run"))
    for command, message in (("resume", "resume=True"), ("play", "cannot be drawn"), ("evaluate", "run.evaluate(env=")):
        assert cli.main([command, str(run.path)]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="give env, or on, but not both"):
        run.evaluate(2, env=Game, on="mpe2")
    with pytest.raises(UserError, match=r"env\.num-agents is for named environments"):
        mappo.train(Game, Config.from_dict({"env": {"num_agents": 3}}, small(tmp_path / "other")))


# PettingZoo environments


def test_one_environment_given_several_times_is_refused():
    game = Game()
    with pytest.raises(UserError, match="one Game several times; make a new environment at each call"):
        SerialEnvs(lambda: game, 2)


def test_agents_may_be_named_by_numbers():
    env = SerialEnvs(lambda: Game((0, 1), sizes=[2, 3]), 2)
    assert env.spec.agents == ("0", "1")
    assert MAPPO(env.spec, Config()).policy.describe() == "2 actors for 0 | 1"
    assert played(env)[1].reward.shape == (2, 2)


def test_rewards_may_be_arrays_of_one_number_and_nothing_else():
    env = SerialEnvs(lambda: Game(reward=lambda x: np.array([float(x)])), 1)
    assert env.reset(0).reward.shape == (1, 2)
    assert env.step(torch.tensor([[[2], [1]]])).reward.tolist() == [[2, -1]]
    for wrong in (lambda x: np.zeros(2), lambda x: "much", lambda x: None):
        with pytest.raises(UserError, match=r"Game: left received the reward .*, which is not one finite number"):
            played(SerialEnvs(lambda wrong=wrong: Game(reward=wrong), 1), 1)


def test_infos_may_be_none():
    assert played(SerialEnvs(lambda: Game(info=None), 1))[-1].mask is None


def test_a_reset_without_a_seed_is_named():
    class Seedless(Game):
        def reset(self) -> Any:  # type: ignore[override]
            return super().reset()

    with pytest.raises(UserError, match=r"Seedless: reset takes no seed: "):
        SerialEnvs(Seedless, 1).reset(0)


def test_a_time_limit_without_its_last_observation_is_named():
    with pytest.raises(UserError, match="left was truncated and has no last observation"):
        played(SerialEnvs(lambda: Game(forgets=True), 1))


def test_an_agent_that_ended_and_stays_is_warned_of_once():
    env = SerialEnvs(lambda: Game(dead=("left",), length=9), 1)
    with pytest.warns(UserWarning, match="left ended at two steps in a row and is still in env.agents") as told:
        played(env)
    assert len(told) == 1


def test_numbers_that_are_no_bytes_are_named():
    space = spaces.Box(0, 255, (3,), np.uint8)
    env = SerialEnvs(lambda: Game(space=space, see=np.array([300, 1, 256])), 1)
    with pytest.raises(UserError, match="left is an array with 300; its space says Box\\(0, 255"):
        env.reset(0)


def test_the_one_reward_of_a_team_may_be_declared():
    class Common(Game):
        shared_reward = True

    env = SerialEnvs(lambda: Common(reward=lambda _: 1.0), 1)
    assert env.spec.team_reward(played(env)[1].reward).tolist() == [1]
    env = SerialEnvs(lambda: Game(reward=lambda _: 1.0), 1)
    assert env.spec.team_reward(played(env)[1].reward).tolist() == [2]


def test_an_image_state_is_turned_as_observations_are():
    class Seen(Game):
        state_space = spaces.Box(0, 255, (3, 8, 9), np.uint8)

        def state(self) -> np.ndarray:
            return np.arange(3 * 8 * 9, dtype=np.uint8).reshape(3, 8, 9)

    env = SerialEnvs(Seen, 1)
    state = env.reset(0).state
    assert env.spec.state_shape == (8, 9, 3)
    assert state is not None
    assert state.dtype == torch.uint8
    assert torch.equal(state[0].movedim(-1, 0).flatten(), torch.arange(216).byte())


# Batched environments


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mask", lambda x: x[..., :1], r"mask must be \(6, 3, 5\), by its Spec, got \(6, 3, 1\)"),
        ("mask", lambda x: x.repeat(1, 1, 2), r"mask must be \(6, 3, 5\), by its Spec, got \(6, 3, 10\)"),
        ("obs", lambda x: x[..., :3], r"obs must be \(6, 3, 4\), by its Spec, got \(6, 3, 3\)"),
        ("obs", lambda x: x.numpy(), r"obs must be a tensor of shape \(6, 3, 4\), got ndarray"),
        ("state", lambda x: None, r"state must be a tensor of shape \(6, 5\), got NoneType"),
    ],
)
def test_what_does_not_fit_the_spec_is_named(name: str, change: Callable[[Tensor], Any], message: str):
    env = Chaos()
    agent = MAPPO(env.spec, Config(env=replace(Config().env, num_envs=6)))
    step = env.reset(0)
    wrong = replace(step, **{name: change(getattr(step, name))})
    with pytest.raises(UserError, match=message):
        Collector(env, agent, 25, wrong, torch.Generator())


def test_more_environments_than_are_told_of_are_named():
    env = Chaos(5)
    env.num_envs, step = 4, env.reset(0)
    with pytest.raises(UserError, match=r"must be \(4, 3.*\), by its Spec, got \(5, 3"):
        Collector(env, MAPPO(env.spec, Config()), 25, step, torch.Generator())
    with pytest.raises(UserError, match="must return a TimeStep, got tuple"):
        Collector(env, MAPPO(env.spec, Config()), 25, (step, {}), torch.Generator())  # pyright: ignore


def test_numbers_that_would_be_rounded_are_named():
    class Rounding(Chaos):
        def reset(self, seed: Any = None) -> TimeStep:
            step = super().reset(seed)
            return replace(step, obs=step.obs.long(), next_obs=step.next_obs.long())

    env = Rounding()
    agent = MAPPO(env.spec, Config(env=replace(Config().env, num_envs=6)))
    with pytest.raises(UserError, match=r"obs was torch\.int64 at the reset and is torch\.float32 now"):
        Collector(env, agent, 25, env.reset(0), torch.Generator()).collect()


# Networks and critics of one's own


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda obs, state, active: obs.flatten(), r"for 2 it returned \(24,\), for 3 \(36,\)"),
        (lambda obs, state, active: obs.sum(), r"for 2 it returned \(\)"),
        (lambda obs, state, active: None, "must return a tensor, got NoneType"),
        (lambda obs, state, active: obs.numpy(), "must return a tensor, got ndarray"),
        (lambda obs, state, active: obs[:, :1], r"for 2 it returned \(2, 1, 4\)"),
        (lambda obs, state, active: torch.zeros(2, 5), r"for 2 it returned \(2, 5\), for 3 \(2, 5\)"),
        (lambda obs, state, active: obs @ torch.zeros(9), r"failed on observations \(2, 3, 4\) and state \(2, 5\)"),
    ],
)
def test_a_critic_function_is_tried_out(function: Any, message: str):
    with pytest.raises(UserError, match=message):
        MAPPO(Chaos().spec, Config(), critic_input=function)


@pytest.mark.parametrize(
    ("maker", "message"),
    [
        (lambda groups, shape, net: nn.Linear(shape[-1], 11), r"should return \(2, 64\), not \(2, 11\)"),
        (lambda groups, shape, net: nn.Linear(3, 64), r"it failed: RuntimeError"),
        (lambda groups, shape, net: nn.LSTM(shape[-1], 64), r"should return \(2, 64\), not tuple"),
    ],
)
def test_an_encoder_is_tried_out(maker: Any, message: str):
    mappo.register_encoder("wrong")(maker)
    try:
        with pytest.raises(UserError, match=message):
            MAPPO(Chaos().spec, Config.from_dict({"network": {"encoder": "wrong"}}))
    finally:
        del ENCODERS["wrong"]


@pytest.mark.parametrize("name", ["mlp", "auto", lambda groups, shape, net: nn.Identity()])
def test_an_encoder_needs_a_name_of_its_own(name: Any):
    with pytest.raises(UserError, match="needs a name of its own"):
        mappo.register_encoder(name)


# Saved actors


def test_an_actor_holds_what_it_is_given_against_its_team():
    config = Config.from_dict({"network": {"memory_size": 4, "hidden": (8,)}})
    team = MAPPO(mappo.make("spread", 1).spec, config).actor()
    agent = team.agent("agent_0")
    _, memory = team(np.zeros((5, 3, 18), np.float32))
    assert team(np.zeros((5, 3, 18)), memory.numpy())[0].shape == (5, 3, 1)
    with pytest.raises(ValueError, match=r"the memory must be \(4, 3, 4\), got \(5, 3, 4\)"):
        team(np.zeros((4, 3, 18)), memory)
    with pytest.raises(ValueError, match=r"the memory must be \(4,\), got \(5, 3, 4\)"):
        agent(np.zeros(18), memory)
    with pytest.raises(ValueError, match=r"is_first must be \(5, 3\), .*got \(5,\)"):
        team(np.zeros((5, 3, 18)), memory, is_first=[True] * 5)
    with pytest.raises(ValueError, match=r"is_first must be \(5,\), .*got \(5, 3\)"):
        agent(np.zeros((5, 18)), is_first=torch.ones(5, 3))
    for wrong in ({"a": 1}, None, "x"):
        with pytest.raises(ValueError, match="an actor reads arrays"):
            team(wrong)


def test_pictures_in_other_types_are_read_as_the_same_bytes_or_refused():
    config = Config.from_dict({"network": {"memory_size": 4, "hidden": (8,)}})
    env = mappo.make("probe/image", 3)
    team, obs = MAPPO(env.spec, config).actor(), env.reset(0).obs
    (_, memory), (_, same), (_, listed) = team(obs), team(obs.long()), team(obs.tolist())
    assert torch.equal(memory, same)
    assert torch.equal(memory, listed)
    for wrong in (obs.float() / 255, obs.long() + 300, obs.long() - 300):
        with pytest.raises(ValueError, match="these agents observe bytes"):
            team(wrong)


def test_an_agent_absent_for_a_step_is_read_as_in_training():
    """Its memory goes on over a step in which it saw NaN, where no life begins anew."""
    config = Config.from_dict({"network": {"memory_size": 4, "hidden": (8,), "obs_norm": True}})
    env = mappo.make("spread", 2)
    agent, step = MAPPO(env.spec, config), env.reset(0)
    agent.network.actor.norm.update(step.obs, step.active)  # pyright: ignore[reportOptionalMemberAccess]
    active = step.active.clone()
    active[:, 1] = False
    obs = torch.where(active.unsqueeze(-1), step.obs, torch.nan)
    _, _, trained = agent.act(replace(step, obs=obs, active=active))
    _, saved = agent.actor()(obs, active=active)
    assert trained is not None
    assert trained.isfinite().all()
    assert torch.equal(saved, trained)

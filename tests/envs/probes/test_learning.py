"""Law 12 for every kind of agent: each probe is learned from three seeds, and not once its feature is broken.

What is the best return, and what is left without the feature, the probes' docstrings derive.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mappo import envs
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.protocols import Environment
from mappo.core.timestep import Rollout, TimeStep
from mappo.evaluation.episodes import play_episodes
from mappo.rollouts.collector import Collector

SEEDS = [0, 1, 2]
BASE = Config(
    env=EnvConfig(num_envs=16),
    network=NetworkConfig(hidden=(32,)),
    ppo=PPOConfig(rollout_length=10, epochs=5, gamma=0.5, actor_lr=5e-3, critic_lr=5e-3),
)
OWN = {"env.reward": "agent"}
REMEMBERING = {
    "env.num_envs": 32,
    "network.memory_size": 16,
    "ppo.minibatches": 4,
    "ppo.gamma": 0.9,
    "ppo.actor_lr": 1e-2,
    "ppo.critic_lr": 1e-2,
    "ppo.lr_final": 0.0,
}
# With 16 games, or gamma 0.9, some seeds stay at one wrong answer of twelve: docs/negative-results.md.
EVERYTHING = {"env.num_envs": 64, "network.memory_size": 32, "ppo.minibatches": 4, "ppo.entropy_weight": 0.03} | {
    "ppo.lr_final": 0.0
}
NUMBERS = {"ppo.minibatches": 4, "ppo.entropy_weight": 0.0, "network.initial_std": 0.3}
# Of each task: settings, updates, and the returns of its agents when it is solved.
TASKS: dict[str, tuple[dict[str, Any], int, list[float]]] = {
    "probe/memory": (REMEMBERING, 25, [1, 1]),
    "probe/mask": ({}, 30, [10, 10]),
    "probe/death": (OWN | {"ppo.gamma": 0.9}, 30, [10, 10]),
    "probe/respawn": (OWN | {"ppo.gamma": 0.9, "ppo.rollout_length": 13}, 30, [3, 3]),
    "probe/arrival": (OWN | {"network.memory_size": 16, "ppo.gamma": 0.9, "ppo.rollout_length": 16}, 50, [8, 1]),
    "probe/unequal": ({}, 30, [10, 10]),
    "probe/target": (NUMBERS, 30, [0, 0]),
    "probe/mixed": (OWN | NUMBERS, 40, [10, 0]),
    "probe/multidiscrete": ({}, 40, [10, 10]),
    "probe/image": ({"ppo.minibatches": 4}, 20, [10, 10]),
    "probe/combined": (OWN | EVERYTHING, 30, [9, 4, 7]),
}


def make_config(changes: dict[str, Any]) -> Config:
    config = BASE.to_dict()
    for name, value in changes.items():
        section, option = name.split(".")
        config[section][option] = value
    return Config.from_dict(config)


def learn(
    name: str,
    changes: dict[str, Any],
    updates: int,
    seed: int,
    kind: type[MAPPO] = MAPPO,
    wrap: Callable[[Environment], Environment] = lambda env: env,
) -> tuple[MAPPO, dict[str, float]]:
    config = make_config(changes)
    steps = updates * config.env.num_envs * config.ppo.rollout_length
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, total_steps=steps))  # for `lr_final`
    env = wrap(envs.make(name, config.env.num_envs))
    agent = kind(env.spec, config, seed=seed)
    noise = torch.Generator().manual_seed(seed)
    collector = Collector(env, agent, config.ppo.rollout_length, env.reset(seed), noise)
    numbers: dict[str, torch.Tensor] = {}
    for _ in range(updates):
        numbers = agent.update(collector.collect()[0])
    return agent, {k: float(v) for k, v in numbers.items()}


def played(name: str, agent: MAPPO, wrap: Callable[[Environment], Environment] = lambda env: env) -> list[float]:
    """The mean return of each agent, greedy."""
    return play_episodes(wrap(envs.make(name, 400)), agent.actor(), range(400)).returns.mean(0).tolist()


def result(
    name: str,
    changes: dict[str, Any] | None = None,
    seed: int = 0,
    kind: type[MAPPO] = MAPPO,
    wrap: Callable[[Environment], Environment] = lambda env: env,
) -> list[float]:
    settings, updates, _ = TASKS[name]
    agent, _ = learn(name, settings | (changes or {}), updates, seed, kind, wrap)
    return played(name, agent, wrap)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TASKS)
def test_it_is_learned(name: str, seed: int):
    best = TASKS[name][2]
    for got, wanted in zip(result(name, seed=seed), best, strict=True):
        # Of games that are drawn: 4 and 7 rewarded steps in the mean, and points that no network hits exactly.
        assert got == pytest.approx(
            wanted, abs=0.2 if name in ("probe/combined", "probe/target", "probe/mixed") else 0.05
        )


def test_without_memory_the_number_is_forgotten():
    assert result("probe/memory", {"network.memory_size": 0})[0] < 0.4
    assert result("probe/arrival", {"network.memory_size": 0})[1] < 0.5


class Wrapped:
    """An environment whose time steps are changed on the way."""

    def __init__(self, env: Environment, change: Callable[[TimeStep], dict[str, Any]]) -> None:
        self.env, self.change = env, change
        self.spec, self.num_envs, self.device = env.spec, env.num_envs, env.device

    def reset(self, seed: Any = None) -> TimeStep:
        return self._changed(self.env.reset(seed))

    def step(self, action: torch.Tensor) -> TimeStep:
        return self._changed(self.env.step(action))

    def close(self) -> None:
        pass

    def _changed(self, step: TimeStep) -> TimeStep:
        return dataclasses.replace(step, **self.change(step))


def changed(change: Callable[[TimeStep], dict[str, Any]]) -> Callable[[Environment], Environment]:
    return lambda env: Wrapped(env, change)


def test_memory_that_is_emptied_at_each_step_is_none():
    always = changed(lambda step: {"is_first": step.active})
    assert result("probe/memory", wrap=always)[0] < 0.4


def test_without_the_mask_half_of_the_answers_are_wrong():
    assert max(result("probe/mask", wrap=changed(lambda step: {"mask": None}))) < 6


FLAGS = "mappo.algorithms.advantages._reward_and_flags"


def alive_for_ever(r: Rollout, *_: Any) -> Any:
    """Takes the dead for alive: their value still counts."""
    return r.reward, torch.zeros_like(r.terminated), r.terminated | r.ended.unsqueeze(-1)


def test_who_counts_on_after_death_jumps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FLAGS, alive_for_ever)
    assert result("probe/death") == [3, 3]


def one_return(r: Rollout, *_: Any) -> Any:
    """Lets an agent's return flow over from one life to the next."""
    return r.reward, *(x.unsqueeze(-1).expand_as(r.reward) for x in (r.ended & r.terminated.all(-1), r.ended))


def test_a_sacrifice_for_the_next_life_is_the_teams_alone(monkeypatch: pytest.MonkeyPatch):
    assert result("probe/respawn", {"env.reward": "team"}) == [9, 9]
    monkeypatch.setattr(FLAGS, one_return)
    assert result("probe/respawn") == [9, 9]


def test_who_takes_the_absent_for_present_learns_nothing():
    """They see NaN: every gradient step is skipped, and said to be."""
    everyone = changed(lambda step: {"active": torch.ones_like(step.active), "next_active": step.next_active})
    name = "probe/arrival"
    settings, _, _ = TASKS[name]
    with pytest.raises(ValueError, match="obs of agent_1 is nan"):
        learn(name, settings, 2, 0, wrap=everyone)


def test_one_network_for_unequal_agents_needs_an_id():
    sharing = {"network.sharing": "all"}
    assert min(result("probe/unequal", sharing)) > 9.9  # given by default where unequal agents share
    assert sum(result("probe/unequal", sharing | {"network.agent_id": False})) / 2 < 6
    assert min(result("probe/unequal", {"network.sharing": "none"})) > 9.9


@pytest.mark.parametrize(
    "changes",
    [
        {"network.action_bounds": "tanh"},
        {"network.action_std": "state"},
        {"network.action_bounds": "tanh", "network.action_std": "state"},
    ],
)
def test_numbers_are_learned_by_each_kind_of_gaussian(changes: dict[str, Any]):
    assert result("probe/target", changes)[0] > -0.2


def test_numbers_in_other_units_miss_the_box():
    """Without `env_action` the environment is sent numbers about 0: never in [1, 5] x [-4, 0]."""

    class Raw(MAPPO):
        def env_action(self, action: torch.Tensor) -> torch.Tensor:
            return action

    assert result("probe/target", kind=Raw)[0] < -0.8


def test_a_head_that_is_left_out_of_the_loss_stays_at_chance():
    class FirstHead(MAPPO):
        def update(self, rollout: Rollout) -> dict[str, torch.Tensor]:
            rollout.action[..., 1] = 0  # as if the second head had never chosen
            return super().update(rollout)

    assert max(result("probe/multidiscrete", kind=FirstHead)) < 8


def test_an_image_that_is_not_looked_at_is_chance():
    dark = changed(lambda step: {"obs": torch.zeros_like(step.obs), "next_obs": torch.zeros_like(step.next_obs)})
    assert max(result("probe/image", wrap=dark)) < 3.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_critic_that_knows_whose_value_it_gives_tells_agents_apart(seed: int):
    settings = OWN | {"ppo.gamma": 0.9, "ppo.critic_lr": 1e-2}
    for choice in ({}, {"network.critic_input": "own", "network.agent_id": True}):
        agent, _ = learn("probe/roles", settings | choice, 50, seed)
        assert values_of_roles(agent) == pytest.approx([0, 10, 20], abs=0.5)
    agent, _ = learn("probe/roles", settings | {"network.critic_input": "own"}, 50, seed)
    assert values_of_roles(agent) == pytest.approx([10, 10, 10], abs=1.5)


def values_of_roles(agent: MAPPO) -> list[float]:
    step = envs.make("probe/roles", 1).reset(0)
    with torch.no_grad():
        rows = agent.network.critic.preprocess(agent.critic_input(step.obs, step.state, step.active))
        return agent.value_norm.denormalize(agent.network.critic(rows)[0])[0, :, 0].tolist()


def test_all_at_once_fails_without_the_masks_or_the_memory():
    assert sum(result("probe/combined", {"network.memory_size": 0})) < 14
    assert sum(result("probe/combined", wrap=changed(lambda step: {"mask": None}))) < 14

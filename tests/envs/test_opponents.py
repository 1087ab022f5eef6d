"""Opponents are recognised from the rewards of random play, and nobody else is taken for one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import mappo
from mappo.config.settings import EnvOptions
from mappo.envs import factory, make
from mappo.envs.check.checker import check
from mappo.envs.opponents import Play, find_opponents
from mappo.policies.random_policy import RandomPolicy
from training_runs import CONFIG, within

Rewards = Callable[[np.random.Generator, int], np.ndarray]


def plays(rewards: Rewards, episodes: int = 20, steps: int = 30, seed: int = 0) -> list[Play]:
    rng = np.random.default_rng(seed)
    parts = [rewards(rng, steps) for _ in range(episodes)]
    return [Play(part, np.zeros(part.shape, bool)) for part in parts]


def walks(rng: np.random.Generator, steps: int, agents: int = 3) -> np.ndarray:
    """Distances to a place of one's own: each drifts through an episode."""
    return rng.normal(size=agents) + rng.normal(size=(steps, agents)).cumsum(0)


def zero_sum(rng: np.random.Generator, steps: int) -> np.ndarray:
    drift = walks(rng, steps, 1)
    return np.hstack([drift, -drift])


def rare(rng: np.random.Generator, steps: int) -> np.ndarray:
    caught = 10.0 * (rng.random((steps, 1)) < 0.05)
    return np.hstack([caught, caught, -caught + 0.01 * rng.normal(size=(steps, 1))])


def shaped(rng: np.random.Generator, steps: int) -> np.ndarray:
    """One is paid for its own way, and against the other's: far from zero-sum."""
    drift = walks(rng, steps, 2)
    return np.stack([drift[:, 0], drift[:, 1] - drift[:, 0]], 1)


@pytest.mark.parametrize(
    ("agents", "rewards", "sides"),
    [
        (["x", "y"], zero_sum, "x against y"),
        (["player_0", "player_1"], zero_sum, "player_0 against player_1"),
        (["wolf_0", "wolf_1", "sheep_0"], rare, "wolf_0, wolf_1 against sheep_0"),
        (["a", "b", "c"], rare, "a, b against c"),
        (["robber", "guard"], shaped, "robber against guard"),
        ([str(i) for i in range(4)], lambda g, n: np.repeat(zero_sum(g, n), 2, 1), "0, 1 against 2, 3"),
        ([f"{s}{i}" for s in ("red", "blue") for i in range(50)], lambda g, n: np.repeat(zero_sum(g, n), 50, 1), None),
    ],
)
def test_who_is_paid_against_whom_is_told(agents: list[str], rewards: Rewards, sides: str | None):
    assert find_opponents(agents, plays(rewards)) == (sides or "red0 to red49 against blue0 to blue49")


def test_games_of_one_step_are_judged_too():
    def pennies(rng: np.random.Generator, steps: int) -> np.ndarray:
        win = rng.choice([-1.0, 1.0])
        return np.array([[win, -win]])

    assert find_opponents(["odd", "even"], plays(pennies, 40)) == "odd against even"


def winner_takes_all(rng: np.random.Generator, steps: int) -> np.ndarray:
    """One is paid at the last step, and the others get nothing."""
    rewards = np.zeros((steps, 2))
    rewards[-1, rng.integers(2)] = 1
    return rewards


def test_who_is_paid_at_the_end_of_a_game_alone_is_recognised():
    assert find_opponents(["x", "y"], plays(winner_takes_all, 40)) == "x against y"
    together = plays(lambda rng, steps: winner_takes_all(rng, steps)[:, :1].repeat(2, 1), 40)
    assert find_opponents(["x", "y"], together) == ""


def compete(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Food that one of them takes is lost for the others: rivals for it, and still a team that wants all of it."""
    food = np.zeros((steps, 3))
    found = np.flatnonzero(rng.random(steps) < 0.1)
    food[found, rng.integers(3, size=len(found))] = 1
    return food


TEAMS: dict[str, Rewards] = {
    "drifting apart": walks,
    "noise": lambda g, n: g.normal(size=(n, 3)),
    "heavy tails": lambda g, n: g.standard_cauchy((n, 3)),
    "food": compete,
    "shared": lambda g, n: np.repeat(g.normal(size=(n, 1)), 3, 1),
    "a shared part": lambda g, n: g.normal(size=(n, 1)) + 0.5 * g.normal(size=(n, 3)),
    "huge": lambda g, n: 1e200 * g.normal(size=(n, 3)),
    "not finite": lambda g, n: g.choice([1.0, np.nan, np.inf, -np.inf], size=(n, 3)),
    "nothing": lambda g, n: np.zeros((n, 3)),
    "rounding": lambda g, n: 0.1 + 1e-16 * g.integers(-3, 4, (n, 3)),
}


@pytest.mark.parametrize("rewards", TEAMS.values(), ids=TEAMS)
@pytest.mark.parametrize("size", [(3, 25), (20, 30), (3, 200)])
def test_a_team_without_opponents_is_left_alone(rewards: Rewards, size: tuple[int, int]):
    alarms = [find_opponents(["a_0", "a_1", "b_0"], plays(rewards, *size, seed)) for seed in range(20)]
    assert alarms == [""] * 20


def battle(killers: int, pay: float, base: float = 0.0, episodes: int = 4) -> list[Play]:
    """A blue dies at some steps; a red is paid for it at some of them."""
    parts: list[Play] = []
    rng = np.random.default_rng(0)
    for _ in range(episodes):
        rewards = -0.1 * (rng.random((100, 4)) < 0.4)
        deaths = np.zeros((100, 4), bool)
        for step in (20, 60):
            deaths[step, 2:] = [True, False]
            rewards[step, 2] = base
            rewards[step, 0] += pay * (len(parts) < killers)
        parts.append(Play(rewards, deaths))
    return parts


def test_who_is_paid_for_a_death_is_an_opponent():
    agents = ["red_0", "red_1", "blue_0", "blue_1"]
    assert find_opponents(agents, battle(4, 5.0, -0.1)) == "red_0, red_1 against blue_0, blue_1"
    assert find_opponents(agents, battle(4, 0.0, -0.1)) == "", "deaths alone are no fight"
    assert find_opponents(agents, battle(1, 5.0, -0.1)) == "", "a pair of kills is chance"
    assert find_opponents(agents, battle(4, 5.0, 5.0)) == "", "who leaves at its goal is paid as well"


def random_play(name: str, episodes: int) -> tuple[tuple[str, ...], list[Play]]:
    """Random play of an environment by name, by its own API."""
    env = factory(name, EnvOptions())()
    agents = list(env.possible_agents)
    parts: list[Play] = []
    for seed in range(episodes):
        env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        rows: list[Any] = []
        while env.agents:
            rewards = env.step({a: int(rng.integers(env.action_space(a).n)) for a in env.agents})[1]
            rows.append([rewards[a] for a in agents])
        parts.append(Play(np.array(rows), np.zeros((len(rows), len(agents)), bool)))
    env.close()
    return tuple(agents), parts


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("simple_adversary_v3", "adversary_0 against agent_0, agent_1"),
        ("simple_push_v3", "adversary_0 against agent_0"),
        ("simple_crypto_v3", "eve_0 against bob_0, alice_0"),
        ("simple_spread_v3", ""),
        ("simple_reference_v3", ""),
    ],
)
def test_opponents_of_mpe2_are_recognised_in_few_episodes(name: str, sides: str):
    assert find_opponents(*random_play(f"mpe2/{name}", 30)) == sides


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "episodes", "sides"),
    [
        ("mpe2/simple_tag_v3", 160, "adversary_0, adversary_1, adversary_2 against agent_0"),
        ("mpe2/simple_world_comm_v3", 60, "leadadversary_0, adversary_0, adversary_1, adversary_2 against"),
        ("mpe2/simple_speaker_listener_v4", 60, None),
        ("rware/rware-tiny-4ag-v2", 3, None),
    ],
)
def test_other_teams_of_packages(name: str, episodes: int, sides: str | None):
    found = find_opponents(*random_play(name, episodes))
    assert found.startswith(sides) if sides else not found


class Duel:
    """What one wins, the other loses, for fifty steps; or both win."""

    possible_agents = ("x", "y")

    def __init__(self, sign: int = -1) -> None:
        self.sign = sign

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(-9, 99, (1,), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.clock = ["x", "y"], 0
        return self.see(), {}

    def step(self, actions: dict[str, Any]) -> Any:
        self.clock += 1
        over, names = self.clock == 50, list(actions)
        self.agents = [] if over else names
        gain = float(sum(actions.values()))
        return self.see(), {"x": gain, "y": self.sign * gain}, {}.fromkeys(names, False), {}.fromkeys(names, over), {}

    def see(self) -> Any:
        return {a: np.array([self.clock], dtype=np.float32) for a in ("x", "y")}


def test_check_tells_opponents_and_the_way_out():
    (told,) = check(Duel, episodes=10).violations
    assert (told.level, told.code) == ("warning", "opponents")
    assert told.message == "the team holds opponents, as seen in play: x against y"
    assert "--env.reward agent" in told.fix
    assert "only one side" in told.fix
    assert not check(lambda: Duel(1), episodes=10).violations


def notes(tmp_path: Path, sign: int, reward: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    config = within(CONFIG, tmp_path / f"{sign}{reward}", total_steps=8 * 160, eval_interval=10_000, eval_episodes=8)
    config = replace(
        config, env=replace(config.env, workers=0, reward=reward), run=replace(config.run, progress="plain")
    )
    mappo.train(lambda: Duel(sign), config)
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("the team holds opponents")]


def test_training_tells_opponents_once_where_their_rewards_are_summed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (told,) = notes(tmp_path, -1, "team", capsys)
    assert told.startswith("the team holds opponents, as seen in play: x against y. ")
    assert "--env.reward agent" in told
    assert notes(tmp_path, -1, "agent", capsys) == []
    assert notes(tmp_path, 1, "team", capsys) == []


@pytest.mark.parametrize("name", ["probe/roles", "probe/unequal", "probe/combined", "battle", "matrix/climbing"])
def test_native_teams_are_no_opponents(name: str):
    env = make(name, 32)
    policy, step = RandomPolicy(env.spec, 0), env.reset(0)
    rewards: list[np.ndarray] = []
    for _ in range(60):
        step = env.step(policy(step.obs, mask=step.mask)[0])
        rewards.append(step.reward.numpy())
    played = np.array(rewards)  # (T, E, A)
    parts = [Play(played[:, e], np.zeros(played[:, e].shape, bool)) for e in range(32)]
    assert find_opponents(env.spec.agents, parts) == ""

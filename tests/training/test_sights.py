"""Runs of teams that see pictures, bytes and numbers: as they are trained, evaluated, resumed and loaded."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import mappo
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.errors import UserError
from mappo.runs.directory import read_run
from paths import DATA
from sights import Bytes, Robots, Sights, quadrant
from strangers import copied

SMALL = Config(
    EnvConfig(4, workers=0),
    NetworkConfig((8,)),
    PPOConfig(10, epochs=2, actor_lr=5e-3, critic_lr=5e-3),
    RunConfig(120, eval_episodes=4, eval_interval=80, progress="off"),
)


def within(path: Path, config: Config = SMALL, network: Any = None, **run: Any) -> Config:
    network_config = replace(config.network, **(network or {}))
    return replace(config, network=network_config, run=replace(config.run, dir=str(path), **run))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path / "metrics.csv") as file:
        return list(csv.DictReader(file))


def sight(space: Any, show: Callable[[np.ndarray], Any]) -> type[Sights]:
    """A game that shows a grey image as `show` makes it."""

    class Sight(Sights):
        def observation_space(self, agent: str) -> Any:
            return space

        def show(self, agent: str, number: int) -> Any:
            return show(quadrant(number))

    return Sight


def bytes_of(*shape: int, high: int = 255, dtype: Any = np.uint8) -> spaces.Box:
    return spaces.Box(0, high, shape, dtype)


def fractions(*shape: int) -> spaces.Box:
    return spaces.Box(0, 1, shape, np.float32)


def to_fractions(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255


PAIRS = {
    "memory": (
        (bytes_of(36), lambda x: x.reshape(-1)),
        (fractions(36), lambda x: to_fractions(x).reshape(-1)),
    ),
    "signed": (
        (spaces.Box(-255, 0, (36,), np.int16), lambda x: -x.reshape(-1).astype(np.int16)),
        (spaces.Box(-1, 0, (36,), np.float32), lambda x: -to_fractions(x).reshape(-1)),
    ),
    "table": (
        (bytes_of(6, 6, high=5), lambda x: x // 51),
        (fractions(6, 6), to_fractions),
    ),
    "grid": (
        (bytes_of(6, 6, 1, high=5), lambda x: x[..., None] // 51),
        (fractions(6, 6, 1), lambda x: to_fractions(x)[..., None]),
    ),
    "stack": (
        (bytes_of(2, 3, 6, 1), lambda x: x.reshape(2, 3, 6, 1)),
        (fractions(2, 3, 6, 1), lambda x: to_fractions(x).reshape(2, 3, 6, 1)),
    ),
    "dict": (
        (spaces.Dict(a=bytes_of(6, 6, 1), b=bytes_of(2)), lambda x: {"a": x[..., None], "b": x[0, 2:4]}),
        (
            spaces.Dict(a=fractions(6, 6, 1), b=fractions(2)),
            lambda x: {"a": to_fractions(x)[..., None], "b": to_fractions(x)[0, 2:4]},
        ),
    ),
    "grey": (
        (bytes_of(6, 6), lambda x: x),
        (spaces.Tuple([fractions(6, 6, 1)]), lambda x: (to_fractions(x)[..., None],)),
    ),
}


def some_slow(*quick: str, names: Any) -> list[Any]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("kind", some_slow("memory", "grid", "grey", names=PAIRS))
def test_bounded_integers_train_as_fractions_of_their_bound(kind: str, tmp_path: Path):
    tables: list[Any] = []
    for name, game in zip(("integers", "fractions"), PAIRS[kind], strict=True):
        mappo.train(sight(*game), within(tmp_path / name, network={"critic_input": "agent"}))
        tables.append((tmp_path / name / "metrics.csv").read_bytes())
    assert tables[0] == tables[1]


def test_a_state_of_integers_is_divided_too(tmp_path: Path):
    class Shown(Sights):
        def observation_space(self, agent: str) -> Any:
            return fractions(2)

        def show(self, agent: str, number: int) -> Any:
            return np.array([number // 2, number % 2], np.float32)

        @property
        def state_space(self) -> Any:
            return bytes_of(2, high=40) if self.bound == 40 else fractions(2)

        def state(self) -> Any:
            x = self.bound * np.array([self.number[a] % 2 for a in "ab"])
            return x.astype(np.uint8 if self.bound == 40 else np.float32)

    for bound in (1, 40):
        game = type("Shown", (Shown,), {"bound": bound})
        run = mappo.train(game, within(tmp_path / str(bound)))
        assert read_run(run.path)[2].state_shape == (2,)
    assert (tmp_path / "1/metrics.csv").read_bytes() == (tmp_path / "40/metrics.csv").read_bytes()


ROBOTS = {
    "plain": {},
    "memory": {"memory_size": 4, "obs_norm": True, "agent_id": True, "critic_input": "agent"},
    "own": {"critic_input": "own", "sharing": "none", "layer_norm": True},
}


@pytest.mark.parametrize("network", some_slow("memory", names=ROBOTS))
def test_a_team_with_and_without_cameras_trains_resumes_and_loads(network: str, tmp_path: Path):
    def stop(update: Any) -> None:
        if update.index == 2:
            raise mappo.StopTraining

    config = within(tmp_path / "run", network=ROBOTS[network])
    mappo.train(Robots, config, callback=stop)
    copied(tmp_path / "run", tmp_path / "again")
    texts: list[bytes] = []
    for name in ("run", "again"):
        assert mappo.train(Robots, within(tmp_path / name, network=ROBOTS[network]), resume=True).finished
        texts.append((tmp_path / name / "metrics.csv").read_bytes())
    assert texts[0] == texts[1]
    assert all(float(row["skipped_steps"]) == 0 for row in rows(tmp_path / "run"))
    actor = mappo.load_actor(tmp_path / "run")
    game = Robots()
    obs, _ = game.reset(seed=1)
    flat = {a: spaces.flatten(game.observation_space(a), obs[a]) for a in obs}
    padded = np.stack([np.pad(x, (0, 38 - x.size)) for x in flat.values()]).astype(np.float32)
    team, _ = actor(padded)
    for index, agent in enumerate(game.possible_agents):
        assert actor.agent(agent)(flat[agent])[0] == team[index]


@pytest.mark.slow
def test_seeds_side_by_side_see_what_each_sees_alone(tmp_path: Path):
    mappo.train(Robots, within(tmp_path / "both", seeds=2))
    mappo.train(Robots, within(tmp_path / "second", seed=2))
    assert (tmp_path / "both/seed-2/metrics.csv").read_bytes() == (tmp_path / "second/metrics.csv").read_bytes()


def test_a_grey_image_is_read_as_it_is_or_flat(tmp_path: Path):
    run = mappo.train(sight(bytes_of(6, 6), lambda x: x), within(tmp_path / "run"))
    spec = read_run(run.path)[2]
    assert [part.shape for part in spec.obs_parts[0]] == [(6, 6)]
    actor = mappo.load_actor(run.path).agent("a")
    images = torch.stack([torch.as_tensor(quadrant(n)) for n in range(4)])
    assert torch.equal(actor(images)[0], actor(images.flatten(1))[0])
    assert actor(images[0])[0] == actor(images)[0][0]
    with pytest.raises(ValueError, match="a reads observations"):
        actor(torch.zeros(4, 5, dtype=torch.uint8))


def test_a_run_whose_config_has_no_bounds_is_read_as_it_was_trained(tmp_path: Path):
    """The run was made by the version before, which divided neither bytes nor integers."""
    run = copied(DATA / "run-of-bytes", tmp_path / "run")
    config = read_run(run)[1]
    expected = rows(run)
    assert mappo.load_actor(run).policy.network.reader.number == 1
    assert mappo.train(Bytes, within(run, config), resume=True).finished
    result = rows(run)
    assert [row["value"] for row in result[: len(expected)]] == [row["value"] for row in expected]
    # Values of undivided bytes had gone astray: the version before went on with -7.5e8.
    assert all(float(row["value"]) < -1e8 for row in result[len(expected) :])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"shape": [11], "scale": [255]}], "'parts' must fill an array of shape"),
        ([{"shape": [12], "scale": [0]}], "must be above 0"),
        ([{"shape": [12], "scale": [1, 2]}], "'parts' must be images or numbers"),
        ([{"shape": [12, 1, 1, 1], "scale": [1]}], "'parts' must be images or numbers"),
        ([{"shape": [-12], "scale": [1]}], "'parts' must be images or numbers"),
        ([{"shape": [12]}], "'scale' is missing"),
        ([], "'parts' must fill an array of shape"),
        (7, "'parts' must be a list of objects"),
    ],
)
def test_parts_in_a_damaged_config_are_told(parts: Any, message: str, tmp_path: Path):
    run = copied(DATA / "run-of-bytes", tmp_path / "run")
    data = json.loads((run / "config.json").read_text())
    data["spec"]["obs"][0]["parts"] = parts
    (run / "config.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=f"config.json is damaged: .*{message}"):
        mappo.load_actor(run)


def test_unequal_parts_of_many_agents_are_bounded_before_they_take_memory(tmp_path: Path):
    run = copied(DATA / "run-of-bytes", tmp_path / "run")
    data = json.loads((run / "config.json").read_text())
    spec = data["spec"]
    size = 1 << 24
    spec["agents"] = list(map(str, range(1000)))
    spec["obs"] = [{"shape": [size], "dtype": "uint8", "parts": [{"shape": [size], "scale": [255]}]}] * 999
    spec["obs"] += [{"shape": [size], "dtype": "uint8", "parts": [{"shape": [size], "scale": [5]}]}]
    spec["heads"] *= 500
    spec["groups"] = [0] * 1000
    (run / "config.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="the agents observe 16,777,216,000 numbers, more than the limit"):
        mappo.load_actor(run)


LEARNING = replace(
    SMALL,
    env=EnvConfig(16, workers=0),
    network=NetworkConfig((32,)),
    ppo=PPOConfig(20, epochs=5, minibatches=4, actor_lr=5e-3, critic_lr=5e-3, entropy_weight=0.005),
    run=replace(SMALL.run, total_steps=16 * 20 * 30, eval_interval=10**6, eval_episodes=32),
)


@pytest.mark.slow
@pytest.mark.parametrize("game", [Robots, Bytes, sight(bytes_of(6, 6), lambda x: x)], ids=["robots", "bytes", "grey"])
def test_what_is_seen_is_learned(game: Any, tmp_path: Path):
    """The best team is paid 20, chance is 5."""
    run = mappo.train(game, within(tmp_path / "run", LEARNING))
    table = rows(run.path)
    assert float(table[0]["approx_kl"]) < 0.1
    assert float(table[-1]["eval_return"]) > 17

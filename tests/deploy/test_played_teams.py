"""Exported agents, each in a process that imports neither torch nor mappo, reach the run's own score."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mappo
from deployed import CAgent, CameraRobots, PythonAgent, export, play
from mappo.config.settings import EnvOptions
from mappo.deploy.c.program import find_compiler
from mappo.deploy.record import float32_policy
from mappo.envs import from_python
from mappo.envs.create import factory
from mappo.evaluation.episodes import play_episodes
from mappo.policies.actor import Actor

KINDS = {"onnx": PythonAgent, "c": CAgent}


def train(env: Callable[[], Any], folder: Path, **settings: Any) -> Path:
    base = {
        "env.num_envs": 4,
        "env.workers": 0,
        "run.dir": str(folder),
        "run.score_episodes": 0,
        "run.eval_episodes": 1,
    }
    return mappo.train(env, base | settings).path


def own_returns(run: Path, env: Callable[[], Any], seeds: range, *, in_float32: bool = False) -> np.ndarray:
    """The return of each agent, `(N, A)`, of the run's own actor, greedy, on the same reset seeds."""
    actor = mappo.load_actor(run)
    actor = Actor(float32_policy(actor.policy)) if in_float32 else actor
    batched = from_python(env, len(seeds), EnvOptions(workers=0))
    try:
        return play_episodes(batched, actor, seeds).returns
    finally:
        batched.close()


def returns_of_processes(kind: str, run: Path, env: Callable[[], Any], seeds: range, out: Path) -> np.ndarray:
    """The return of each agent, `(N, A)`, of a team with a process for each agent."""
    folders = export(run, env, [kind], out)
    single = env()
    agents = {name: KINDS[kind](folder) for name, folder in zip(single.possible_agents, folders, strict=True)}
    try:
        returns = np.array([play(single, agents, seed) for seed in seeds])
        assert ("knights" not in str(single)) or len({agent.steps for agent in agents.values()}) > 1  # some died early
        return returns
    finally:
        for agent in agents.values():
            agent.close()
        single.close()


@pytest.fixture(scope="module")
def camera_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"run.total_steps": 400, "ppo.rollout_length": 50, "network.memory_size": 8, "network.hidden": (16,)}
    return train(CameraRobots, tmp_path_factory.mktemp("camera") / "run", **settings)


@pytest.mark.parametrize("kind", [pytest.param("onnx", marks=pytest.mark.slow), "c"])
def test_camera_robots_reach_the_score_of_their_run(kind: str, camera_run: Path, tmp_path: Path):
    if kind == "c" and not find_compiler():
        pytest.skip("needs a C compiler")
    seeds = range(500, 503)
    own = own_returns(camera_run, CameraRobots, seeds)
    assert own.std(0).min() > 0
    assert returns_of_processes(kind, camera_run, CameraRobots, seeds, tmp_path / "out") == pytest.approx(own, abs=1e-4)


TASKS = {
    "mpe2/simple_speaker_listener_v4": ({}, {"run.total_steps": 4000, "network.obs_norm": True}, 40, 1e-3),
    "butterfly/knights_archers_zombies_v11": (
        {"max_cycles": 200, "spawn_delay": 4, "max_zombies": 20},
        {"run.total_steps": 600, "ppo.rollout_length": 75, "env.num_envs": 2, "network.memory_size": 16}
        | {"network.sharing": "none", "run.seed": 7},
        6,
        1e-3,
    ),
    # The robot's dynamics amplify differences of 1e-7 step by step: longer episodes of two correct programs part.
    "mamujoco/HalfCheetah-2x3": (
        {"max_episode_steps": 60},
        {"run.total_steps": 2000, "network.obs_norm": True},
        8,
        0.05,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_a_team_of_processes_reaches_the_score_of_its_run(task: str, kind: str, tmp_path: Path):
    options, settings, episodes, tolerance = TASKS[task]
    env = factory(task, EnvOptions(options=options))
    run = train(env, tmp_path / "run", **settings)
    seeds = range(1000, 1000 + episodes)
    own = own_returns(run, env, seeds)
    assert own.std(0).max() > 0
    played = returns_of_processes(kind, run, env, seeds, tmp_path / "out")
    print(f"{task}, {kind}: score of the run {own.sum(1).mean():.6f}, of the processes {played.sum(1).mean():.6f}")
    assert played == pytest.approx(own, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_team_trained_in_bf16_reaches_the_score_of_its_actor_in_float32(kind: str, tmp_path: Path):
    task = "mpe2/simple_speaker_listener_v4"
    env = factory(task, EnvOptions())
    run = train(env, tmp_path / "run", **{"run.total_steps": 4000, "network.precision": "bf16"})
    seeds = range(1000, 1040)
    own = own_returns(run, env, seeds, in_float32=True)
    assert returns_of_processes(kind, run, env, seeds, tmp_path / "out") == pytest.approx(own, abs=1e-3)
    in_bf16 = own_returns(run, env, seeds)
    assert abs(in_bf16 - own).max() > 0  # close choices differ, and the score hardly
    assert in_bf16.mean() == pytest.approx(own.mean(), abs=0.1 * own.std())

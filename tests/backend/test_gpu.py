"""What must hold on a CUDA device: the same numbers as on the CPU, and no wait for the device inside an update."""

import dataclasses
import warnings

import pytest
import torch

import graphed_runs
import mappo
from mappo.backend import cuda_graphs as graphs
from mappo.core.timestep import Rollout
from mappo.envs.batched.spread import Spread

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def small_config(**run) -> mappo.Config:
    config = mappo.preset("spread")
    return dataclasses.replace(
        config,
        env=dataclasses.replace(config.env, num_envs=16),
        run=dataclasses.replace(config.run, progress="off", **run),
    )


# The names of environments, and settings: each kind of network and of action once.
KINDS = {
    "plain": ("spread", {}, {}),
    "memory": ("spread", {"memory_size": 16, "obs_norm": True, "layer_norm": True}, {"popart": True, "minibatches": 4}),
    "numbers": ("probe/mixed", {"critic_input": "agent", "sharing": "none"}, {"minibatches": 4}),
    "lives": ("probe/combined", {"memory_size": 16, "critic_input": "agent", "death_mask": True}, {"epochs": 2}),
    "images": ("probe/image", {"critic_input": "own"}, {"recompute_advantages": True, "epochs": 2}),
}


def collected(device: str, kind: str = "plain") -> tuple[mappo.MAPPO, Rollout]:
    name, network, ppo = KINDS[kind]
    config = small_config()
    config = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, **network),
        ppo=dataclasses.replace(config.ppo, **ppo),
    )
    env = mappo.make(name, 16, device=device)
    agent = mappo.MAPPO(env.spec, config, device, seed=1)
    noise = torch.Generator(device).manual_seed(2)
    collector = mappo.Collector(env, agent, 25, env.reset(3), noise)
    return agent, collector.collect()[0]


def test_games_from_the_same_seeds_are_the_same_on_both_devices():
    games = {device: Spread(8, device=device) for device in ("cpu", "cuda")}
    steps = {device: game.reset(5) for device, game in games.items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(24):
        action = torch.randint(5, (8, 3, 1), generator=generator)
        steps = {device: game.step(action.to(device)) for device, game in games.items()}
        torch.testing.assert_close(steps["cuda"].obs.cpu(), steps["cpu"].obs, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(steps["cuda"].reward.cpu(), steps["cpu"].reward, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_from_one_rollout_is_the_same_on_both_devices(kind: str):
    on_cpu, rollout = collected("cpu", kind)
    on_gpu, _ = collected("cuda", kind)
    on_gpu.network.load_state_dict(on_cpu.network.state_dict())
    moved = {f.name: None if (x := getattr(rollout, f.name)) is None else x.cuda() for f in dataclasses.fields(rollout)}
    first, second = on_cpu.prepare(rollout)[0], on_gpu.prepare(Rollout(**moved))[0]
    for field in dataclasses.fields(first):
        expected, actual = getattr(first, field.name), getattr(second, field.name)
        if expected is not None:
            torch.testing.assert_close(actual.cpu(), expected, atol=2e-3, rtol=1e-3, equal_nan=True, msg=field.name)


def update_without_waiting(agent: mappo.MAPPO, rollout: Rollout) -> None:
    """An update; whatever waits for the device in it is an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        agent.update(rollout)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_never_waits_for_the_device(kind: str):
    agent, rollout = collected("cuda", kind)
    for _ in range(graphs.WARM_UP + 2):  # the first ones allocate, and what comes then is a recording
        agent.update(rollout)
    update_without_waiting(agent, rollout)


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_that_is_not_recorded_does_not_wait_either(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graphs, "WARM_UP", 10)
    agent, rollout = collected("cuda", kind)
    agent.update(rollout)
    update_without_waiting(agent, rollout)


@pytest.mark.parametrize(("kind", "seeds"), [(kind, 1) for kind in graphed_runs.KINDS] + [("spread", 3), ("memory", 3)])
def test_recorded_training_is_the_training_that_is_recorded(kind: str, seeds: int, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as inner:
        inner.setattr(graphs, "WARM_UP", 1000)
        expected = graphed_runs.trained(kind, seeds, device="cuda")
    actual = graphed_runs.trained(kind, seeds, device="cuda")
    recorded = graphs.WARM_UP + 2  # updates, of which the last was played back; later ones may drift apart by rounding
    for a, b in zip(expected[:recorded], actual[:recorded], strict=True):
        for name in a:
            if a[name].is_floating_point():
                torch.testing.assert_close(b[name], a[name], rtol=1e-2, atol=1e-2, equal_nan=True, msg=name)
            else:
                assert (a[name] == b[name]).double().mean() > 0.99, name


def test_what_is_recorded_is_launched_as_a_whole():
    from torch.profiler import ProfilerActivity, profile

    agent, collector = graphed_runs.training("spread", device="cuda")
    for _ in range(graphs.WARM_UP + 1):
        agent.update(collector.collect()[0])
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        agent.update(collector.collect()[0])
        torch.cuda.synchronize()
    launched = {e.key: e.count for e in seen.key_averages() if "Launch" in e.key}
    assert sum(n for key, n in launched.items() if "GraphLaunch" in key) == 2
    assert sum(n for key, n in launched.items() if "LaunchKernel" in key) < 60


def test_a_run_trains_saves_resumes_and_scores(tmp_path):
    config = small_config(total_steps=1600, eval_episodes=8, device="cuda", dir=str(tmp_path / "run"))

    def stop(update):
        if update.index == 2:
            raise mappo.StopTraining

    assert not mappo.train("spread", config, callback=stop).finished
    run = mappo.train("spread", config, resume=True)
    assert run.finished
    assert run.evaluate(8)["return_sum"]["mean"] < 0

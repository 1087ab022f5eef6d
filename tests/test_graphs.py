"""What is recorded for a GPU, played back on the CPU (see `tape`): the same training, to the last bit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import tape
import torch
from torch import Tensor

import mappo
from mappo.algorithms.multi_seed import Seeds
from mappo.backend import cuda_graphs as graphs
from mappo.envs.batched.concat import SideBySide
from mappo.rollouts import graphed as recording

ENVS, UPDATES = 8, 6
# Environment, options of it, network, ppo: what each kind of learner and game does in an update or a step.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "spread": ("spread", {}, {}, {"lr_final": 0.0, "entropy_final": 0.0}),
    "two phases": ("spread", {"horizon": 20}, {}, {"rollout_length": 10, "minibatches": 1}),
    "more phases than recordings": ("spread", {}, {}, {"rollout_length": 24, "epochs": 1, "minibatches": 1}),
    "memory": (
        "spread",
        {},
        {"memory_size": 8, "obs_norm": True, "layer_norm": True, "activation": "tanh"},
        {"popart": True, "value_clip": 0.2, "huber_delta": 10.0, "rollout_length": 20, "chunk_length": 5},
    ),
    "values anew": ("spread", {}, {"critic_input": "agent"}, {"recompute_advantages": True, "dual_clip": 3.0}),
    "n steps": ("reference", {}, {"sharing": "none"}, {"returns": "n_step"}),
    "all rewards": ("speaker_listener", {}, {}, {"returns": "discounted"}),
    "battle": ("battle", {}, {"memory_size": 8}, {"rollout_length": 20}),
    "lives": ("probe/combined", {}, {"memory_size": 8, "critic_input": "agent", "death_mask": True}, {}),
    "numbers": ("probe/mixed", {}, {"action_bounds": "tanh"}, {}),
    "images": ("probe/image", {}, {"critic_input": "own"}, {}),
    "bf16": ("spread", {}, {"precision": "bf16"}, {}),
}
SEVERAL = ("spread", "two phases", "memory", "lives", "numbers")  # seeds at once


def config_of(kind: str) -> mappo.Config:
    name, _, network, ppo = KINDS[kind]
    base = mappo.preset(name)
    return replace(
        base,
        env=replace(base.env, num_envs=ENVS),
        network=replace(base.network, **{"hidden": (8,), "memory_size": 0, **network}),
        ppo=replace(base.ppo, **{"minibatches": 2, "epochs": 2, "rollout_length": 25, **ppo}),
        run=replace(base.run, total_steps=UPDATES * 25 * ENVS),
    )


def training(kind: str, seeds: int = 1, device: str = "cpu") -> tuple[Any, mappo.Collector]:
    config, name = config_of(kind), KINDS[kind][0]
    options, apart = KINDS[kind][1], kind == "memory"  # environments for each seed, or one with a share for each
    games = [mappo.make(name, ENVS, options=options, device=device) for _ in range(seeds)]
    agents = [mappo.MAPPO(games[0].spec, config, device, seed=k) for k in range(seeds)]
    env, learner = (games[0], agents[0]) if seeds == 1 else (SideBySide(games), Seeds(agents))
    if seeds > 1 and not apart:
        env = mappo.make(name, ENVS * seeds, options=options, device=device)
        env.share_out(seeds)
    noise = [torch.Generator(device).manual_seed(k) for k in range(seeds)]
    step = env.reset(range(ENVS * seeds))
    return learner, mappo.Collector(env, learner, config.ppo.rollout_length, step, noise if seeds > 1 else noise[0])


Between = Callable[[Any, mappo.Collector, int], None]


def nothing(*_: Any) -> None:
    pass


def trained(kind: str, seeds: int, between: Between = nothing, device: str = "cpu") -> list[dict[str, Tensor]]:
    """All numbers of each update, and at last all that the learners hold."""
    learner, collector = training(kind, seeds, device)
    told: list[dict[str, Tensor]] = []
    for index in range(UPDATES):
        rollout, episodes = collector.collect()
        told.append({k: x.clone() for k, x in {**episodes, **learner.update(rollout)}.items()})
        told[-1] |= {f"rollout {k}": x.clone() for k, x in vars(rollout).items() if x is not None}
        between(learner, collector, index)
    for k, agent in enumerate(getattr(learner, "agents", [learner])):
        told.append({name: x.clone() for name, x in {**agent.state_dict(), **collector.state_dict(k)}.items()})
    return told


def load_again(learner: Any, collector: mappo.Collector, index: int) -> None:
    """In the middle of it, all that was saved is loaded where it was."""
    if index != 3:
        return
    agents = getattr(learner, "agents", [learner])
    for agent in agents:
        agent.load_state_dict({k: x.clone() for k, x in agent.state_dict().items()})
    collector.load_state_dict(*({n: x.clone() for n, x in collector.state_dict(k).items()} for k in range(len(agents))))


def same(first: list[dict[str, Tensor]], second: list[dict[str, Tensor]]) -> None:
    assert len(first) == len(second)
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(b[name], a[name], rtol=0, atol=0, equal_nan=True, msg=f"{index}: {name}")


def twice(kind: str, seeds: int, patch: pytest.MonkeyPatch, between: Between = nothing) -> list[tape.Tape]:
    """Trains as it is written, and recorded: the same numbers. What was recorded."""
    tapes = tape.pretend(patch)
    with patch.context() as inner:
        inner.setattr(graphs, "WARM_UP", UPDATES)
        expected = trained(kind, seeds, between)
    assert not tapes
    patch.setattr(graphs, "WARM_UP", 1)
    same(expected, trained(kind, seeds, between))
    return tapes


@pytest.mark.parametrize(("kind", "seeds"), [(kind, 1) for kind in KINDS] + [(kind, 3) for kind in SEVERAL])
def test_recorded_training_is_the_training_that_is_recorded(kind: str, seeds: int, monkeypatch: pytest.MonkeyPatch):
    tapes = twice(kind, seeds, monkeypatch)
    assert sum(t.played for t in tapes) >= UPDATES - graphs.WARM_UP


@pytest.mark.parametrize(("kind", "seeds"), [("spread", 3), ("memory", 1), ("lives", 1)])
def test_what_is_loaded_is_what_goes_on(kind: str, seeds: int, monkeypatch: pytest.MonkeyPatch):
    assert twice(kind, seeds, monkeypatch, load_again)


def test_a_rollout_of_ones_own_each_time_is_learned_from_as_it_comes(monkeypatch: pytest.MonkeyPatch):
    agent, collector = training("spread")
    copies = [collector.collect()[0].of(slice(0, ENVS)) for _ in range(2)]
    tapes = tape.pretend(monkeypatch)
    for rollout in 4 * copies:
        agent.update(rollout)
    assert not tapes


def test_what_is_not_to_be_recorded_is_not(monkeypatch: pytest.MonkeyPatch):
    config = config_of("spread")
    monkeypatch.setitem(globals(), "config_of", lambda _: replace(config, run=replace(config.run, graphs=False)))
    assert not twice("spread", 1, monkeypatch)
    assert not twice("spread", 3, monkeypatch)


def test_a_kl_that_ends_an_update_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(KINDS, "kl", ("spread", {}, {}, {"target_kl": 1e-4}))
    tapes = twice("kl", 1, monkeypatch)
    assert len(tapes) == 1, "the rollout alone"


def test_a_tensor_that_takes_anothers_place_is_learned_from(monkeypatch: pytest.MonkeyPatch):
    def shaped() -> list[dict[str, Tensor]]:
        agent, collector = training("spread")
        told: list[dict[str, Tensor]] = []
        for _ in range(UPDATES):
            rollout, _ = collector.collect()
            told.append(agent.update(rollout))
            if len(told) == UPDATES - 3:
                rollout.reward = rollout.reward * 0.1
        return told

    tape.pretend(monkeypatch)
    with monkeypatch.context() as inner:
        inner.setattr(graphs, "WARM_UP", UPDATES)
        expected = shaped()
    monkeypatch.setattr(graphs, "WARM_UP", 1)
    same(expected, shaped())  # and numbers that are kept stay what they were


def test_a_wrapper_that_passes_on_is_stepped_as_it_is(monkeypatch: pytest.MonkeyPatch):
    class Wrapper:
        def __init__(self, env: Any) -> None:
            self.env = env

        def __getattr__(self, name: str) -> Any:
            return getattr(self.env, name)

    tape.pretend(monkeypatch)
    assert recording.Games.of(mappo.make("spread", 2), []) is not None
    assert recording.Games.of(cast(Any, Wrapper(mappo.make("spread", 2))), []) is None


def test_tensors_with_two_names_are_kept_apart():
    shared, owner = torch.ones(2), dict[str, Tensor]()
    owner |= {"a": shared, "b": shared}
    still = graphs.Still([owner])
    still.settle()
    kept = dict(owner)
    owner["a"], owner["b"] = owner["b"], torch.zeros(2)
    still.settle()
    assert owner["a"] is kept["a"]
    assert owner["b"] is kept["b"]
    assert owner["a"].tolist() == [1, 1]
    assert owner["b"].tolist() == [0, 0]


def test_tensors_that_change_places_are_both_kept():
    owner = {"a": torch.zeros(2), "b": [torch.ones(2)]}
    still = graphs.Still([owner])
    still.settle()
    owner["a"], owner["b"] = owner["b"][0], [owner["a"]]
    still.settle()
    assert owner["a"].tolist() == [1, 1]
    assert owner["b"][0].tolist() == [0, 0]

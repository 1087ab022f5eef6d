"""What is recorded for a GPU, played back on the CPU (see `tape`): the same training, to the last bit."""

from dataclasses import replace
from typing import Any, cast

import pytest
from torch import Tensor

import mappo
import tape
from graphed_runs import ENVS, KINDS, SEVERAL, UPDATES, Between, config_of, load_again, nothing, same, trained, training
from mappo.backend import cuda_graphs as graphs
from mappo.rollouts import graphed as recording


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
    copies = [collector.collect()[0].slice_envs(slice(0, ENVS)) for _ in range(2)]
    tapes = tape.pretend(monkeypatch)
    for rollout in 4 * copies:
        agent.update(rollout)
    assert not tapes


def test_what_is_not_to_be_recorded_is_not(monkeypatch: pytest.MonkeyPatch):
    config = config_of("spread")
    monkeypatch.setattr("graphed_runs.config_of", lambda _: replace(config, run=replace(config.run, graphs=False)))
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
    assert recording.graphed_rollouts(mappo.make("spread", 2)) is not None
    assert recording.graphed_rollouts(cast(Any, Wrapper(mappo.make("spread", 2)))) is None

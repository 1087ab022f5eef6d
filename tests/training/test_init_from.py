"""A run that starts from the weights of another run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings as limits, strategies as st
from torch import Tensor

from games import Game
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, NetworkConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.core.state_dict import flatten
from mappo.errors import StopTraining, UserError
from mappo.runs import checkpoint
from mappo.runs.checkpoint import Checkpoint
from mappo.training.run import Run
from mappo.training.session import Session
from mappo.training.train import train
from mappo.training.transfer import Source, transfer
from training_runs import CONFIG, SETTINGS, SIZE, assert_same, stop_after, within


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "finish", Session.close)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with statistics of observations and a memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "finish", Session.close)
        path = tmp_path_factory.mktemp("source") / "run"
        return train("spread", within(SETTINGS["memory"], path, keep_every=SIZE))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "finish", Session.close)
        path = tmp_path_factory.mktemp("seeds") / "run"
        return train("spread", within(CONFIG, path, seeds=2, total_steps=2 * SIZE))


def begin(config: Config, monkeypatch: pytest.MonkeyPatch, env: Any = "spread") -> tuple[list[dict[str, Tensor]], Any]:
    """The state of each learner ahead of the first update, and the session."""
    kept: list[Any] = []

    def stop(session: Session, *_: object) -> None:
        session._view = None  # type: ignore[assignment]
        kept.append(([{k: v.clone() for k, v in agent.state_dict().items()} for agent in session.agents], session))
        raise StopTraining

    with monkeypatch.context() as patch:
        patch.setattr(Session, "loop", stop)
        train(env, config)
    return kept[0]


def test_weights_and_statistics_are_those_of_the_source_and_all_else_is_new(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = within(replace(source.config, run=CONFIG.run), tmp_path / "run", seed=9, init_from=str(source.path))
    (state,), session = begin(config, monkeypatch)
    found = checkpoint.load(source.path)
    assert len(found.model) > 20
    for name, x in found.model.items():
        assert torch.equal(state[name], x), name
    assert {"network.actor.norm.mean", "network.critic.norm.mean", "value_norm.moments"} <= found.model.keys()
    assert state["updates"] == 0
    assert not any(name.startswith("optimizer.") for name in state)
    other = within(config, tmp_path / "other", init_from=None)
    (plain,), _ = begin(other, monkeypatch)
    assert torch.equal(state["generator"], plain["generator"])
    assert [note for note in session.notes if "starts from" in note] == [
        f"starts from step {source.step:,} of {source.path}"
    ]
    record = json.loads((tmp_path / "run" / "config.json").read_text())["source"]
    file = found.path / "model.safetensors"
    assert record == {"run": str(source.path), "step": source.step, "sha256": checkpoint.digest(file)}


@pytest.mark.parametrize("which", ["last", "best", str(2 * SIZE)])
def test_the_checkpoint_is_the_one_named(which: str, source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(source.config, run=CONFIG.run)
    (state,), _ = begin(within(config, tmp_path / "run", init_from=f"{source.path}@{which}"), monkeypatch)
    expected = checkpoint.load(source.path, which).model["network.actor.head.weight"]
    assert torch.equal(state["network.actor.head.weight"], expected)


def test_stopped_and_resumed_it_is_the_run_that_was_not_and_needs_no_source(source: Run, tmp_path: Path):
    copy = tmp_path / "source"
    shutil.copytree(source.path, copy)
    config = replace(SETTINGS["memory"], run=replace(CONFIG.run, init_from=str(copy)))
    whole = train("spread", within(config, tmp_path / "whole"))
    train("spread", within(config, tmp_path / "half"), callback=stop_after(3))
    shutil.rmtree(copy)
    train("spread", within(config, tmp_path / "half"), resume=True)
    assert_same(whole.path, tmp_path / "half")
    plain = train("spread", within(SETTINGS["memory"], tmp_path / "plain"))
    assert not np.array_equal(plain.metrics["policy_loss"], whole.metrics["policy_loss"])


def test_each_seed_starts_from_its_own_or_all_from_the_one_named(
    seeds: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = [checkpoint.load(path).model["network.actor.head.weight"] for path in seeds.seed_paths]
    config = within(CONFIG, tmp_path / "own", seeds=2, seed=7, init_from=str(seeds.path))
    states, session = begin(config, monkeypatch)
    assert [torch.equal(s["network.actor.head.weight"], x) for s, x in zip(states, own, strict=True)] == [True, True]
    assert f"starts from step 160 of {seeds.path / 'seed-1'}, each seed from its own" in session.notes
    configs = [json.loads((tmp_path / "own" / name / "config.json").read_text()) for name in ("seed-7", "seed-8", ".")]
    assert [data["source"]["run"] for data in configs[:2]] == [str(path) for path in seeds.seed_paths]
    assert "source" not in configs[2]
    config = within(CONFIG, tmp_path / "one", seeds=3, init_from=str(seeds.path / "seed-2"))
    states, _ = begin(config, monkeypatch)
    assert all(torch.equal(state["network.actor.head.weight"], own[1]) for state in states)
    assert len(states) == 3


def spec(names: str, obs: int = 4, actions: int = 3, state: int | None = None) -> Spec:
    space = spaces.Box(-np.inf, np.inf, (obs,), np.float32)
    count = len(names)
    return Spec(tuple(names), (space,) * count, (ActionHeads((actions,)),) * count, state_shape=state and (state,))


def source_of(agent: MAPPO, path: str = "there/checkpoints/8") -> Source:
    model = flatten("network", agent.network.state_dict()) | flatten("value_norm", agent.value_norm.state_dict())
    return Source(agent.config, agent.spec, Checkpoint(Path(path), {}, model, {}))


def moved(agent: MAPPO, to: MAPPO) -> list[str]:
    """Transfer an agent's weights into another learner."""
    taken, misfits, *_ = transfer(to, source_of(agent))
    to.network.load_state_dict({k.removeprefix("network."): v for k, v in taken.items() if k.startswith("network.")})
    return misfits


NETWORK = NetworkConfig((6, 5))
NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True).map("".join)


@limits(max_examples=12, deadline=None)
@given(there=NAMES, here=NAMES, has_id=st.booleans(), mode=st.sampled_from(["joint", "agent", "own"]))
def test_common_agents_act_as_in_the_source_whoever_else_is_in_the_team(there: str, here: str, has_id: bool, mode: Any):
    """And the critic's value is the same where all other agents' observations and ids are zero."""
    config = replace(CONFIG, network=replace(NETWORK, agent_id=has_id, critic_input=mode))
    old, new = MAPPO(spec(there), config, seed=1), MAPPO(spec(here), config, seed=2)
    for parameter in old.network.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    misfits = moved(old, new)
    if here == there or (mode == "own" and not has_id):
        assert misfits == []
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(4))
    for name in set(there) & set(here):
        rows = []
        for agent, names in ((old, there), (new, here)):
            obs = torch.zeros(7, len(names), 4)
            obs[:, names.index(name)] = x
            values = agent.network.critic(agent.critic_input(obs, None, torch.ones(7, len(names), dtype=torch.bool)))[0]
            values = values if agent.team_rows else values[:, names.index(name)]
            rows.append((agent.network.actor(obs)[0][:, names.index(name)], values))
        for old_row, new_row in zip(*rows, strict=True):
            torch.testing.assert_close(old_row, new_row, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("here", "changes", "expected"),
    [
        (spec("abc"), {}, []),
        (spec("ab"), {}, ["critic.encoder.layers.0 (4 of 12 inputs of the source not used)"]),
        (spec("abcd"), {}, ["critic.encoder.layers.0 (12 of 16 inputs)"]),
        (
            spec("abcd"),
            {"agent_id": True},
            ["actor.encoder.layers.0 (7 of 8 inputs)", "critic.encoder.layers.0 (12 of 16 inputs)"],
        ),
        (
            spec("abcd"),
            {"obs_norm": True},
            [
                "critic.norm (other inputs: 12 there, 16 here)",
                "critic.encoder.layers.0 (12 of 16 inputs)",
            ],
        ),
        (
            spec("abc", obs=5),
            {},
            [
                "actor.encoder.layers.0 (other inputs: 4 there, 5 here)",
                "critic.encoder.layers.0 (other inputs: 12 there, 15 here)",
            ],
        ),
        (
            spec("ab"),
            {"obs_norm": True, "agent_id": True, "critic_input": "own"},
            [
                "actor.encoder.layers.0 (1 of 7 inputs of the source not used)",
                "critic.norm (other inputs: 7 there, 6 here)",
                "critic.encoder.layers.0 (1 of 7 inputs of the source not used)",
            ],
        ),
        (spec("abc", state=12), {}, ["critic.encoder.layers.0 (other inputs: 12 there, 12 here)"]),
        (spec("abc", actions=4), {}, ["actor.head (other actions)"]),
        (
            replace(spec("abc"), action_heads=(ActionHeads((1, 2)),) * 3),
            {},
            ["actor.head (other actions)"],
        ),
    ],
)
def test_what_does_not_fit_is_named(here: Spec, changes: dict[str, Any], expected: list[str]):
    config = replace(CONFIG, network=replace(NETWORK, **changes))
    agent = MAPPO(here, config, seed=2)
    there = MAPPO(spec("abc"), config, seed=1)
    for network in (there.network.actor, there.network.critic):
        if network.norm is not None:
            network.norm.count.fill_(5)
            network.norm.square.fill_(3)
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    assert moved(there, agent) == expected
    after = agent.state_dict()
    if "critic.norm" in str(expected):  # statistics of some inputs alone would hide the others: their count is common
        names = [f"network.critic.norm.{name}" for name in ("count", "mean", "square")]
        assert all(torch.equal(after[name], before[name]) for name in names)
    if "head" in str(expected):
        assert torch.equal(agent.state_dict()["network.actor.head.weight"], before["network.actor.head.weight"])


def test_settings_of_another_meaning_and_parts_of_one_side_are_named():
    there = replace(CONFIG, network=replace(NETWORK, memory_size=5, layer_norm=True))
    here = replace(CONFIG, network=replace(NETWORK, activation="tanh", action_bounds="tanh"))
    misfits = moved(MAPPO(spec("abc"), there), MAPPO(spec("abc"), here))
    settings = ["network.activation (relu there, tanh here)", "network.action-bounds (clip there, tanh here)"]
    assert misfits[:2] == settings
    assert {"actor.gru.input (not in this run)", "actor.encoder.norms.0 (not in this run)"} <= set(misfits)
    back = moved(MAPPO(spec("abc"), here), MAPPO(spec("abc"), there))
    assert "actor.gru.input (not in the source)" in back
    bytes_there = replace(spec("abc"), obs_spaces=(spaces.Box(0, 7, (4,), np.uint8),) * 3, obs_parts=())
    bytes_here = replace(spec("abc"), obs_spaces=(spaces.Box(0, 14, (4,), np.uint8),) * 3, obs_parts=())
    config = replace(CONFIG, network=NETWORK)
    assert moved(MAPPO(bytes_there, config), MAPPO(bytes_here, config)) == ["observations (divided by other bounds)"]


def test_agents_that_share_parameters_otherwise_are_refused():
    none, all_ = (replace(CONFIG, network=replace(NETWORK, sharing=sharing)) for sharing in ("none", "all"))
    assert moved(MAPPO(spec("abc"), none), MAPPO(spec("abc"), none, seed=5)) == []
    with pytest.raises(UserError, match=r"parameter sets: there has 3 for its 3 agents, this run has 1 for 3; "):
        moved(MAPPO(spec("abc"), none), MAPPO(spec("abc"), all_))
    with pytest.raises(UserError, match=r"^there gives b its set of parameters 1, this run 0: agents must share"):
        moved(MAPPO(spec("ab"), none), MAPPO(spec("ba"), none))
    encoder = replace(CONFIG, network=NetworkConfig((7, 7)))
    with pytest.raises(UserError, match=r"^no weight of the actor in there/checkpoints/8 fits this run: actor\.enc"):
        moved(MAPPO(spec("abc", actions=4), encoder), MAPPO(spec("abc"), replace(CONFIG, network=NETWORK)))


def no_checkpoint(path: Path) -> None:
    shutil.rmtree(path / "checkpoints")


def later_format(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"format": 3}))


def damage(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def all_damaged(path: Path) -> None:
    for folder in (path / "checkpoints").iterdir():
        damage(folder)


def other_encoder(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    config["config"]["network"]["critic_input"] = "env"  # a state that spread does not have
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "which", "message"),
    [
        (shutil.rmtree, "", "is not a run directory: there is no config.json in it"),
        (no_checkpoint, "", "holds no checkpoint: nothing was saved in it yet"),
        (later_format, "", "has format 3, this version reads 2; it was written by a later version"),
        (all_damaged, "", "is damaged: its checksum"),
        (all_damaged, f"@{2 * SIZE}", "is damaged: its checksum"),
        (other_encoder, "", "network.critic-input env: this environment gives no state"),
        (str, "@latest", "checkpoint must be last, best or a step, got 'latest'; did you mean 'last'?"),
        (str, "@81", f"holds no checkpoint of step 81; there are {2 * SIZE}, {4 * SIZE}, {6 * SIZE}"),
    ],
)
def test_a_hostile_source_is_told_in_one_line_and_nothing_is_begun(
    change: Callable[[Path], object], which: str, message: str, source: Run, tmp_path: Path
):
    path = tmp_path / "source"
    shutil.copytree(source.path, path)
    change(path)
    with pytest.raises(UserError) as error:
        train("spread", within(SETTINGS["memory"], tmp_path / "run", init_from=f"{path}{which}"))
    text = str(error.value)
    assert text.startswith(f"run.init-from {path}{which}: ")
    assert message in text
    assert "\n" not in text
    assert not (tmp_path / "run").exists()


def test_misfits_are_refused_if_asked_and_so_are_other_seeds_and_the_run_itself(
    source: Run, seeds: Run, tmp_path: Path
):
    def start(**run: Any) -> None:
        train("spread", within(CONFIG, tmp_path / "run", **run))

    with pytest.raises(
        UserError, match=r"not fit, see run\.init-strict: actor\.head \(\(5, 8\) there, \(5, 16\) here\), "
    ):
        start(init_from=str(source.path), init_strict=True)
    with pytest.raises(UserError, match=r"it holds 2 seeds, this run has 3: name one, such as .*seed-1$"):
        start(init_from=str(seeds.path), seeds=3)
    with pytest.raises(UserError, match=r"this is the run's own directory"):
        start(init_from=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_damaged_last_checkpoint_is_passed_over(source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a@b"
    shutil.copytree(source.path, path)
    damage(path / "checkpoints" / f"{source.step:012d}")
    config = within(replace(source.config, run=CONFIG.run), tmp_path / "run", init_from=str(path))
    with pytest.warns(UserWarning, match=r"passed over: .*is damaged"):
        _, session = begin(config, monkeypatch)
    assert f"starts from step {4 * SIZE} of {path}" in session.notes


def test_a_run_that_is_being_written_is_a_source(tmp_path: Path):
    def start(update: Any) -> None:
        if update.index == 3:
            train("spread", within(CONFIG, tmp_path / "run", init_from=str(tmp_path / "source"), total_steps=SIZE))

    train("spread", within(CONFIG, tmp_path / "source"), callback=start)
    record = json.loads((tmp_path / "run" / "config.json").read_text())["source"]
    assert record["step"] == 2 * SIZE


def test_a_run_that_ended_before_its_first_checkpoint_begins_again_from_the_same_weights(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "source"
    shutil.copytree(source.path, path)
    config = within(SETTINGS["memory"], tmp_path / "run", init_from=f"{path}@last", exists="resume")
    begin(config, monkeypatch)
    shutil.rmtree(tmp_path / "run" / "checkpoints", ignore_errors=True)
    last = path / "checkpoints" / f"{source.step:012d}"
    again = tmp_path / "again"
    shutil.move(last, again)
    with pytest.raises(UserError, match=r"no checkpoint of step 480; .*run holds no checkpoint yet, and cannot begin"):
        begin(config, monkeypatch)
    shutil.copytree(path / "checkpoints" / f"{4 * SIZE:012d}", last)
    with pytest.raises(UserError, match=r"its state\.json is of step 320; .* cannot begin again: delete it"):
        begin(config, monkeypatch)
    shutil.rmtree(last)
    shutil.copytree(again, last)
    (path / "config.json").unlink()
    other = tmp_path / "other"
    train("spread", within(SETTINGS["memory"], other, seed=3))
    shutil.copytree(other, path, dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"holds other weights than when .* was made; .* cannot begin again: delete it"):
        begin(config, monkeypatch)
    shutil.copytree(source.path, path, dirs_exist_ok=True)
    (state,), _ = begin(config, monkeypatch)
    assert torch.equal(state["network.actor.head.weight"], checkpoint.load(path).model["network.actor.head.weight"])


@pytest.mark.filterwarnings("error:run.init-from")
def test_a_start_that_reads_observations_by_random_weights_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = replace(CONFIG, network=NetworkConfig((8, 8)))
    source = train("spread", within(small, tmp_path / "source", total_steps=SIZE)).path
    wide = replace(small, env=replace(small.env, num_agents=5), run=replace(small.run, init_from=str(source)))
    kept = 8 + 8 * 8 + 8 + 8 * 5 + 5  # all weights but those of the 18, or here 30, observed numbers
    share = f"{kept / (kept + 30 * 8):.0%}"
    with pytest.warns(UserWarning, match=f"^run.init-from: {share} of the actor's weights come from {source}, but a"):
        begin(within(wide, tmp_path / "wide"), monkeypatch)
    begin(within(small, tmp_path / "same", init_from=str(source)), monkeypatch)  # without a warning
    four = spec("abc", actions=4)
    pairs = replace(four, action_heads=(ActionHeads((2, 2)),) * 3)
    for name, old, new, expected in (  # 136 weights from 4 observed numbers and 3 ids to the last layer
        ("other actions", four, pairs, 136 / (136 + 4 * 8 + 4)),
        ("as many ids", spec("abc"), spec("abd"), 1 - 8 / (136 + 3 * 8 + 3)),
    ):
        config = replace(CONFIG, network=NetworkConfig((8, 8), agent_id=True))
        found = transfer(MAPPO(new, config, seed=1), source_of(MAPPO(old, config, seed=2)))
        assert (found.actor_share, found.reads_alike) == (pytest.approx(expected), True), name


def test_ones_own_environment_of_another_size_of_team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(CONFIG, env=replace(CONFIG.env, num_envs=2, workers=0), ppo=replace(CONFIG.ppo, minibatches=1))
    train(lambda: Game(), within(config, tmp_path / "source", total_steps=20))
    _, session = begin(
        within(config, tmp_path / "run", init_from=str(tmp_path / "source")), monkeypatch, lambda: Game()
    )
    assert f"starts from step 20 of {tmp_path / 'source'}" in session.notes

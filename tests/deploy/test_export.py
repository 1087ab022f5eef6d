"""Exported files answer as the saved actor does on real episodes, and each wrong file is found."""

import functools
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from mappo.deploy.build import build_agent_policy
from mappo.deploy.c.program import find_compiler
from mappo.deploy.comparison import Verdict, compare
from mappo.deploy.contract import TOLERANCE, make_contract, read_contract, write_contract
from mappo.deploy.export import export_agents, folder_names
from mappo.deploy.formats import Arrays, FormatName, get_format
from mappo.deploy.record import record_steps
from mappo.deploy.rounding import measure_rounding, rounding_tolerance
from mappo.deploy.tracing import trace
from mappo.deploy.verify import read_record, replay, verify
from mappo.envs.vector.team_layout import TeamLayout
from mappo.errors import UserError
from mappo.networks.encoders import ENCODERS, register_encoder
from mappo.policies.actor import Actor
from teams import ORIGIN, TEAMS, extreme_inputs, own_inputs, random_actor, saved_answers
from vectorized import from_factory

NEEDS_COMPILER = pytest.mark.skipif(not find_compiler(), reason="needs a C compiler")


def recorded(kind: str, steps: int, horizon: int = 11) -> tuple[Actor, list[Arrays]]:
    team = TEAMS[kind]
    env = from_factory(partial(team.make, horizon), 1)
    actor = random_actor(env.spec, **team.network)
    return actor, record_steps(env, actor.policy, steps, seed=3)


def as_runner(policy: Any) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """The module in torch as if it were a file."""

    @torch.no_grad()
    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        outputs = policy({name: torch.as_tensor(x) for name, x in inputs.items()})
        return {name: x.numpy() for name, x in outputs.items()}

    return run


@pytest.mark.parametrize("kind", TEAMS)
def test_real_episodes_are_answered_as_by_the_saved_actor(kind: str):
    actor, records = recorded(kind, 40)
    spec = actor.policy.spec
    for index, agent in enumerate(spec.agents):
        policy = build_agent_policy(actor.policy, index)
        record = records[index]
        contract = make_contract(policy, agent, ORIGIN)
        names = {x["name"] for key in ("inputs", "outputs") for x in contract[key]}
        assert record.keys() == names
        assert len(record["noise"]) == 40
        verdict = replay("module", as_runner(policy), record, contract)
        assert not verdict.problem, verdict
        if contract["memory"]:
            assert record["is_first"].sum() > 2  # lives and episodes
            assert not record["is_first"].all()
        if "mask" in record and TEAMS[kind].masks:
            assert not record["mask"].all()
        for fact in contract["inputs"] + contract["outputs"]:
            x = record[fact["name"]]
            assert (x.dtype.name, list(x.shape[1:])) == (fact["dtype"], fact["shape"][1:])
        space = TEAMS[kind].kinds[agent][1]
        for name in ("action", "sampled_action"):
            assert all(space.contains(np.asarray(x, space.dtype)[()]) for x in record[name])


# Bugs that a writer of files could make, each by its change of a policy; and the kinds of teams that it concerns.
def forget_statistics(policy: Any) -> None:
    policy.reader.mean = policy.reader.scale = None


def keep_memory(policy: Any) -> None:
    inner = policy.forward
    policy.forward = lambda inputs: inner(inputs | {"is_first": torch.zeros_like(inputs["is_first"])})


def swap_heads(policy: Any) -> None:
    policy.head.weight.data = policy.head.weight.data.flip(0)
    policy.head.bias.data = policy.head.bias.data.flip(0)


def forget_mask(policy: Any) -> None:
    inner = policy.forward
    policy.forward = lambda inputs: inner(inputs | {"mask": torch.ones_like(inputs["mask"])})


def forget_bytes(policy: Any) -> None:
    policy.reader.divisor.fill_(1)


def forget_start(policy: Any) -> None:
    inner = policy.forward
    policy.forward = lambda inputs: inner(inputs) | {"action": inner(inputs)["action"] - 3}


def forget_bounds(policy: Any) -> None:
    policy.distribution.half_width = policy.distribution.half_width * 0 + 1


def forget_constants(policy: Any) -> None:
    policy.reader.constants.zero_()


BUGS = {
    forget_statistics: ["discrete-masks", "unequal", "dict"],
    keep_memory: ["unequal-gru", "gru-masks"],
    swap_heads: ["discrete", "multidiscrete", "box-clip", "multibinary-masks"],
    forget_mask: ["discrete-masks", "gru-masks"],
    forget_bytes: ["images", "bytes"],
    forget_start: ["discrete"],
    forget_bounds: ["box-clip", "box-tanh"],
    forget_constants: ["images-first-id"],
}


@pytest.mark.parametrize(("bug", "kind"), [(bug, kind) for bug, kinds in BUGS.items() for kind in kinds])
def test_a_wrong_file_is_refused(bug: Callable[[Any], None], kind: str):
    actor, records = recorded(kind, 60)
    policy = build_agent_policy(actor.policy, 0)
    contract = make_contract(policy, "a", ORIGIN)
    assert not replay("module", as_runner(policy), records[0], contract).problem
    bug(policy)
    assert replay("module", as_runner(policy), records[0], contract).problem


def of_another_agent(policy: Any) -> None:
    policy.encoder.load_state_dict(build_agent_policy(remembering_team()[0].policy, 1).encoder.state_dict())


@functools.cache
def remembering_team() -> tuple[Actor, list[Arrays]]:
    """A team with statistics, a memory, and parameters of each agent; and its records."""
    env = from_factory(TEAMS["discrete"].make, 1)
    actor = random_actor(env.spec, sharing="none", obs_norm=True, memory_size=6)
    return actor, record_steps(env, actor.policy, 60, seed=3)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("onnx", "pt2")]
MUTANTS = [forget_statistics, keep_memory, swap_heads, of_another_agent]


@pytest.mark.parametrize("name", [*SLOW, pytest.param("c", marks=NEEDS_COMPILER)])
@pytest.mark.parametrize("bug", [None, *MUTANTS])
def test_a_wrong_file_of_each_format_is_refused(bug: Callable[[Any], None] | None, name: FormatName, tmp_path: Path):
    actor, records = remembering_team()
    policy = build_agent_policy(actor.policy, 0)
    contract = make_contract(policy, "a", ORIGIN)
    if bug is not None:
        bug(policy)
    get_format(name).write(policy, contract, tmp_path)
    if bug is keep_memory and name == "c":  # the writer of C reads no `forward`
        text = (tmp_path / "policy.c").read_text()
        (tmp_path / "policy.c").write_text(re.sub(r"\n        fill\(policy->memory, .*", "", text))
    verdict = replay(name, get_format(name).open(contract, tmp_path), records[0], contract)
    assert bool(verdict.problem) == (bug is not None), verdict


@pytest.mark.parametrize("kind", ["discrete-masks", "box-tanh", "images", "unequal-none-state"])
def test_another_agents_weights_are_refused(kind: str):
    actor, records = recorded(kind, 60)
    right, wrong = (build_agent_policy(actor.policy, index) for index in (0, 1))
    if kind == "unequal-none-state":
        wrong.reader, wrong.head = right.reader, right.head
        wrong.encoder[0], wrong.heads, wrong.distribution = right.encoder[0], right.heads, right.distribution
    contract = make_contract(right, "a", ORIGIN)
    assert replay("module", as_runner(wrong), records[0], contract).problem


def test_close_logits_and_rounding_are_allowed_and_counted():
    actor, records = recorded("discrete", 200)
    contract = make_contract(build_agent_policy(actor.policy, 0), "a", ORIGIN)
    record = records[0]
    assert not compare("x", record, record, contract).problem

    def other(steps: int, gap: float) -> Verdict:
        """Another choice in some steps, whose two best logits differ by the gap."""
        rows = np.arange(steps)
        best = record["logits"].argmax(-1)
        second = np.where(np.arange(5) == best[:, None], -np.inf, record["logits"]).argmax(-1)
        logits = record["logits"].copy()
        logits[rows, second[rows]] = logits[rows, best[rows]] - gap
        action = record["action"].copy()
        action[rows] = second[rows] + 3
        return compare("x", record | {"action": action, "logits": logits}, record | {"logits": logits}, contract)

    assert other(1, 2e-4).problem == "other greedy choices in 1 steps"
    assert not other(1, 5e-5).problem
    assert other(1, 5e-5).close == other(1, 5e-5).close_differing == 1
    assert other(2, 5e-5).problem == "other choices in 2 steps"
    noisy = record | {"logits": record["logits"] + 2e-5}
    assert compare("x", noisy, record, contract).problem == "numbers differ by more than 1e-05"
    broken = record | {"logits": record["logits"] * np.float32(np.nan)}
    assert compare("x", broken, record, contract).problem


def amplifying_actor(equality: float) -> tuple[Actor, list[Arrays]]:
    """A team whose memories are nearly equal numbers, which a LayerNorm pulls apart."""
    env = from_factory(TEAMS["discrete"].make, 1)
    actor = random_actor(env.spec, memory_size=6, layer_norm=True)
    network = actor.policy.network
    for layer in (network.gru.input, network.gru.hidden):
        layer.weight *= equality
        layer.bias[:] = 0.5
    network.head.weight *= 5
    return actor, record_steps(env, actor.policy, 300, seed=3)


def test_weights_that_amplify_rounding_are_compared_by_their_own_rounding(tmp_path: Path):
    actor, records = amplifying_actor(1e-3)
    policy = build_agent_policy(actor.policy, 0)
    rounding = measure_rounding(policy, records[0])
    assert 1e-5 < rounding < 1e-3
    contract = make_contract(policy, "a", ORIGIN, rounding_tolerance(policy, records[0]))
    export_agents(actor.policy, ["a"], ["pt2"], tmp_path / "x", ORIGIN, records)
    assert read_contract(tmp_path / "x" / "a")["tolerance"] == contract["tolerance"] > 10 * TOLERANCE
    swap_heads(policy)
    assert replay("module", as_runner(policy), records[0], contract).problem


def test_weights_that_amplify_rounding_without_bound_are_refused(tmp_path: Path):
    actor, records = amplifying_actor(1e-3)
    actor.policy.network.head.weight *= 1000
    with pytest.raises(UserError, match=r"a cannot be exported: its network amplifies rounding.*too much to prove"):
        export_agents(actor.policy, ["a"], ["pt2"], tmp_path / "x", ORIGIN, records)


def test_a_tolerance_beyond_the_limit_is_refused(tmp_path: Path):
    policy = build_agent_policy(remembering_team()[0].policy, 0)
    write_contract(tmp_path, make_contract(policy, "a", ORIGIN))
    file = tmp_path / "contract.json"
    data = json.loads(file.read_text())
    cases = {0.5: "'tolerance' must be at most 0.01, got 0.5", "x": "'tolerance' must be of type float, got 'x'"}
    for value, text in cases.items():
        file.write_text(json.dumps(data | {"tolerance": value}))
        with pytest.raises(UserError, match=text):
            read_contract(file.parent)
    del data["tolerance"]  # as in contracts of earlier versions
    file.write_text(json.dumps(data))
    assert read_contract(file.parent)["tolerance"] == TOLERANCE


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of all agents of a team with memory, masks, statistics and unequal spaces, as ONNX and pt2."""
    actor, records = recorded("unequal-gru", 100)
    out = tmp_path_factory.mktemp("export") / "out"
    verdicts = export_agents(actor.policy, ["talker"], ["onnx", "pt2"], out, ORIGIN, records)
    assert list(verdicts) == [out / "talker"]
    assert [verdict.file for verdict in verdicts[out / "talker"]] == ["policy.onnx", "policy.pt2"]
    return out / "talker"


def test_files_are_complete(exported: Path):
    names = {"contract.json", "check.safetensors", "policy.onnx", "policy.pt2"}
    assert {file.name for file in exported.iterdir()} == names


def test_an_onnx_file_holds_the_numbers_of_one_agent_alone(exported: Path):
    contract = read_contract(exported)
    numbers = {f"{layer['name']}.{key}": n for layer in contract["layers"] for key, n in layer["numbers"].items()}
    assert numbers["encoder.1.weight"] == 7 * 16  # the seven numbers that this agent observes
    assert numbers["gru.hidden.weight"] == 3 * 7 * 7
    assert numbers["head.weight"] == 6 * 7  # its six choices
    model = onnx.load(exported / "policy.onnx")
    floats = {x.name: int(np.prod(x.dims)) for x in model.graph.initializer if x.data_type == onnx.TensorProto.FLOAT}
    assert {name: n for name, n in floats.items() if name in numbers} == numbers
    assert sum(floats.values()) <= sum(numbers.values()) + 8  # and a few constants of the arithmetic


def test_an_onnx_file_holds_no_path_of_the_machine(exported: Path):
    assert b"/" + str(Path(__file__).parents[2]).encode()[1:] not in (exported / "policy.onnx").read_bytes()
    assert b"site-packages" not in (exported / "policy.onnx").read_bytes()


def check_other_inputs(actor: Actor, index: int, folder: Path, formats: list[FormatName]) -> None:
    """Compare the files of an agent with the saved actor on random and extreme inputs."""
    policy = build_agent_policy(actor.policy, index)
    contract = read_contract(folder)
    runners = {name: get_format(name).open(contract, folder) for name in formats}
    for inputs in (own_inputs(policy, 1000, seed=5), extreme_inputs(policy, seed=5)):
        record = saved_answers(actor, index, inputs)
        bound = contract | {"tolerance": rounding_tolerance(policy, record)}
        for name, run in runners.items():
            verdict = compare(name, run({key: record[key] for key in inputs}), record, bound)
            assert not verdict.problem, verdict


@pytest.mark.parametrize("kind", ["discrete-masks", pytest.param("images", marks=pytest.mark.slow)])
def test_random_and_extreme_observations_are_answered_as_by_the_saved_actor(kind: str, tmp_path: Path):
    actor, records = recorded(kind, 10)
    export_agents(actor.policy, ["a"], ["pt2"], tmp_path / "x", ORIGIN, records)
    check_other_inputs(actor, 0, tmp_path / "x" / "a", ["pt2"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEAMS)
def test_files_answer_ten_thousand_steps_of_real_episodes(kind: str, tmp_path: Path):
    actor, records = recorded(kind, 10_000)
    verdicts = export_agents(actor.policy, actor.policy.spec.agents, ["onnx", "pt2"], tmp_path / "x", ORIGIN, records)
    for index, (folder, of_agent) in enumerate(verdicts.items()):
        assert [(verdict.steps, verdict.problem, verdict.skipped) for verdict in of_agent] == [(10_000, "", "")] * 2
        check_other_inputs(actor, index, folder, ["onnx", "pt2"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unequal-gru", "gru-masks", "dict-gru"])
def test_a_memory_lasts_a_thousand_steps(kind: str, tmp_path: Path):
    actor, records = recorded(kind, 3000, horizon=1200)
    assert records[0]["is_first"].sum() == 3
    verdicts = export_agents(actor.policy, actor.policy.spec.agents[:1], ["onnx"], tmp_path / "x", ORIGIN, records)
    assert all(verdict.memory_error < 1e-4 for of_agent in verdicts.values() for verdict in of_agent)


class Host(torch.nn.Module):
    """An encoder that reads a number of a tensor in Python."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(shape[0], 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * (2.0 if x.sum().item() > 0 else 1.0)


class Grouped(torch.nn.Module):
    """An encoder with parameters of several groups in a form of its own."""

    def __init__(self, groups: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = torch.nn.ModuleList(torch.nn.Linear(shape[0], 12) for _ in range(groups))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.unbind() if len(self.linear) > 1 else (x,)
        y = [layer(row) for layer, row in zip(self.linear, rows, strict=True)]
        return torch.stack(y) if len(y) > 1 else y[0]


class Selectable(Grouped):
    def select_(self, group: int) -> None:
        self.linear = self.linear[group : group + 1]


def test_encoders_of_users_are_exported_or_refused_with_a_reason(tmp_path: Path):
    makers = {"host": lambda g, s, _: Host(s), "grouped": lambda g, s, _: Grouped(g, s)}
    makers["selectable"] = lambda g, s, _: Selectable(g, s)
    spec = from_factory(TEAMS["discrete"].make, 1).spec
    try:
        for name, maker in makers.items():
            register_encoder(name)(maker)
        policy = build_agent_policy(random_actor(spec, encoder="host").policy, 0)
        with pytest.raises(UserError, match=r"the encoder Host cannot be exported .*without \.item\(\)"):
            trace(policy)
        with pytest.raises(UserError, match=r"a cannot be exported: its encoder holds the parameters of other agents"):
            build_agent_policy(random_actor(spec, encoder="grouped", sharing="none").policy, 0)
        actor = random_actor(spec, encoder="selectable", sharing="none")
        records = record_steps(from_factory(TEAMS["discrete"].make, 1), actor.policy, 30)
        verdicts = export_agents(actor.policy, ["b"], ["pt2"], tmp_path / "x", ORIGIN, records)
        assert not verdicts[tmp_path / "x" / "b"][0].problem
    finally:
        for name in makers:
            ENCODERS.pop(name, None)


def test_damaged_files_are_named(exported: Path, tmp_path: Path):
    import shutil

    for name, text in (
        ("policy.onnx", r"policy\.onnx is damaged: its checksum is not the checksum in contract\.json"),
        ("check.safetensors", r"check\.safetensors is damaged"),
        ("contract.json", r"holds no exported policy: contract\.json"),
    ):
        copy = tmp_path / name / "talker"
        shutil.copytree(exported, copy)
        with open(copy / name, "r+b") as stream:
            stream.seek(-9, 2)
            stream.write(b"\xff" * 9)
        with pytest.raises(UserError, match=text):
            verify(copy)
    copy = tmp_path / "gone"
    shutil.copytree(exported, copy)
    (copy / "policy.pt2").unlink()
    with pytest.raises(UserError, match=r"cannot read .*policy\.pt2: No such file"):
        verify(copy)
    data = json.loads((exported / "contract.json").read_text())
    (copy / "contract.json").write_text(json.dumps(data | {"format": 9}))
    with pytest.raises(UserError, match="is not of format 1"):
        verify(copy)
    with pytest.raises(UserError, match="holds no exported policy"):
        verify(tmp_path)


def test_existing_folders_are_not_touched(tmp_path: Path):
    actor, records = recorded("discrete", 10)
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="a exists: remove it, or give another folder by --out"):
        export_agents(actor.policy, ["b", "a"], ["pt2"], tmp_path, ORIGIN, records)
    assert [x.name for x in tmp_path.iterdir()] == ["a"]


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    actor, records = recorded("discrete", 10)
    records[0]["action"] = records[0]["action"] + 1
    with pytest.raises(UserError, match="a cannot be exported, since a file does not answer as the saved actor"):
        export_agents(actor.policy, ["a"], ["pt2"], tmp_path, ORIGIN, records)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mappo.deploy.export.write_record", full)
    with pytest.raises(UserError, match=r"cannot write .*a: No space left on device"):
        export_agents(actor.policy, ["a"], [], tmp_path, ORIGIN, records)
    assert list(tmp_path.iterdir()) == []
    records[0] = {}
    with pytest.raises(UserError, match="a did not act in any recorded step"):
        export_agents(actor.policy, ["a"], [], tmp_path, ORIGIN, records)


def test_bounds_are_exported_without_a_warning(tmp_path: Path):
    actor, records = recorded("box-tanh", 10)
    verdicts = export_agents(actor.policy, ["a"], ["pt2"], tmp_path / "x", ORIGIN, records)
    assert not verdicts[tmp_path / "x" / "a"][0].problem


def test_folders_have_plain_names():
    assert folder_names(["a", "../b", "A", "x y", "x_y", ""]) == ["a", "_b", "A_", "x_y", "x_y_", "agent"]


def test_the_record_survives_the_disk(exported: Path):
    record = read_record(exported)
    assert TeamLayout(TEAMS["unequal-gru"].make()).spec.agents[1] == "talker"
    assert record["memory"].shape == (100, 7)

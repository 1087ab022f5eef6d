"""A policy as a C file answers as the module that it was written from."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from c_policies import SANITIZED, build, differences, policy_of
from mappo.deploy.build import build_agent_policy
from mappo.deploy.c.interface import field_names
from mappo.deploy.c.program import FLAGS, find_compiler
from mappo.deploy.c.source import c_files, check_choices
from mappo.deploy.c.text import float_text, functions_text
from mappo.deploy.contract import TOLERANCE, make_contract
from mappo.deploy.record import record_steps
from mappo.deploy.rounding import rounding_tolerance
from mappo.deploy.verify import replay
from mappo.errors import UserError
from teams import ORIGIN, TEAMS, extreme_inputs, own_inputs, random_actor
from vectorized import from_factory

pytestmark = pytest.mark.skipif(not find_compiler(), reason="needs a C compiler")


@pytest.mark.parametrize("kind", TEAMS)
def test_it_answers_as_its_module(kind: str, tmp_path: Path):
    policy = policy_of(kind)
    program = build(policy, tmp_path)
    for inputs in (own_inputs(policy, 300, seed=1), extreme_inputs(policy, seed=1)):
        assert not differences(policy, program, inputs)


def test_statistics_of_pixels_are_left_out(tmp_path: Path):
    policy = policy_of("camera-and-sensor", 0)
    assert policy.reader.mean is None
    assert not differences(policy, build(policy, tmp_path), own_inputs(policy, 20, seed=1))


def replayed(kind: str, steps: int, folder: Path) -> None:
    """Compare all agents' C files with the saved actor on real episodes, each from its own memory."""
    env = from_factory(TEAMS[kind].make, 1)
    actor = random_actor(env.spec, **TEAMS[kind].network | {"precision": "float32"})
    for index, record in enumerate(record_steps(env, actor.policy, steps, seed=7)):
        policy = build_agent_policy(actor.policy, index)
        program = build(policy, folder / str(index), FLAGS)
        contract = make_contract(policy, "a", ORIGIN, rounding_tolerance(policy, record))
        verdict = replay("policy.c", program.play, record, contract)
        assert (verdict.steps, verdict.problem) == (steps, "")


@pytest.mark.parametrize("kind", ["unequal-gru", "discrete-masks"])
def test_real_episodes_are_answered_as_by_the_saved_actor(kind: str, tmp_path: Path):
    replayed(kind, 80, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEAMS)
def test_ten_thousand_steps_of_real_episodes_are_answered_as_by_the_saved_actor(kind: str, tmp_path: Path):
    replayed(kind, 10_000, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEAMS)
def test_every_agent_answers_as_its_module_and_no_byte_is_touched_beyond_its_own(kind: str, tmp_path: Path):
    for index in range(len(TEAMS[kind].kinds)):
        policy = policy_of(kind, index)
        program = build(policy, tmp_path / str(index), SANITIZED)
        for inputs in (own_inputs(policy, 2000, seed=index), extreme_inputs(policy, seed=index)):
            assert not differences(policy, program, inputs)


def test_a_memory_is_carried_from_step_to_step_and_starts_anew(tmp_path: Path):
    policy = policy_of("unequal-gru")
    program = build(policy, tmp_path)
    inputs = own_inputs(policy, 200, seed=3)
    inputs["is_first"] = torch.rand(200, generator=torch.Generator().manual_seed(0)) < 0.05
    inputs["is_first"][0] = True
    memory = torch.full((1, policy.memory_size), torch.nan)
    for step in range(200):
        row = {name: x[step : step + 1] for name, x in inputs.items()} | {"memory": memory}
        memory = policy(row)["memory_out"]
        inputs["memory"][step] = memory[0]
    played = program.play({name: x.numpy() for name, x in inputs.items()}, keeps_memory=True)
    assert np.abs(played["memory_out"] - inputs["memory"].numpy()).max() < TOLERANCE


LARGE = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("dict", "images-large")]


@pytest.mark.parametrize("kind", ["unequal-gru", "box-clip", *LARGE])
def test_nan_and_infinity_end_in_an_action_of_the_space(kind: str, tmp_path: Path):
    policy = policy_of(kind, 0)
    program = build(policy, tmp_path, SANITIZED)
    inputs = {name: x.numpy() for name, x in own_inputs(policy, 60, seed=0).items()}
    for name, x in inputs.items():
        if name.startswith("obs") and x.dtype == np.float32:
            x[::3] = np.nan
            x[1::3] = np.inf
    outputs = program.play(inputs)
    for action in (outputs["action"], outputs["sampled_action"]):
        if policy.heads.categorical:
            assert action.min() >= min(policy.heads.start)
            assert action.max() < max(policy.heads.start) + max(policy.heads.categorical)


def test_a_file_holds_the_numbers_of_its_agent_and_no_others():
    for kind in ("unequal-all", "gru-masks", "dict"):
        policy = policy_of(kind)
        text = c_files(policy)["policy.c"]
        sizes = re.findall(r"static const float (\w+)\[(\d+)\]", text)
        weights = {name: int(n) for name, n in sizes if name.startswith(("HIDDEN", "INPUT", "OUTPUTS", "CONV", "NORM"))}
        assert sum(weights.values()) == sum(p.numel() for p in policy.parameters())


def test_a_file_holds_the_functions_that_it_calls_and_no_others():
    body = c_files(policy_of("box-tanh"))["policy.c"]
    assert "gru(" not in body
    assert "choose" not in body
    assert "erfc" in body  # of `normal_quantile`, which `set_numbers` calls
    assert functions_text("nothing();") == "\n"


def test_a_header_is_fit_for_cpp(tmp_path: Path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    for name, text in c_files(policy_of("dict-gru")).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "main.cpp").write_text(
        '#include "policy.h"\nint main() { static mappo_policy p; return p.memory[0]; }\n'
    )
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    subprocess.run([compiler, *flags, "main.cpp"], cwd=tmp_path, check=True)


def test_names_of_a_user_stay_in_their_comment(tmp_path: Path):
    policy = policy_of("discrete")
    files = c_files(policy, ["agent */ int main(void) { return 1; } /* ??/", "строка\nint x;"])
    for text in files.values():
        head = text[: text.index("*/\n\n")]
        assert head.count("*/") == head.count("??") == head.count("\nint x") == 0
    assert field_names(["obs.left eye", "obs.left_eye", "obs.7"]) == ["obs_left_eye", "obs_left_eye_", "obs_7"]


def test_numbers_are_written_exactly():
    numbers = torch.cat([torch.randn(2000) * 10.0 ** torch.randint(-38, 38, (2000,)), torch.tensor([0.0, 1.0, -3e8])])
    assert [np.float32(float_text(x)[:-1]) for x in numbers.tolist()] == numbers.tolist()
    assert float_text(float("-inf")) == "-INFINITY"


class Own(nn.Module):
    """An encoder of the user's own."""


def test_an_encoder_of_ones_own_is_refused():
    policy = policy_of("discrete")
    policy.encoder = nn.Sequential(Own())
    with pytest.raises(UserError, match=r"a C file holds the encoders mlp and cnn, not the layer Own .*use --to onnx"):
        c_files(policy)


def test_nan_in_the_weights_is_refused():
    policy = policy_of("discrete")
    policy.head.bias[0] = torch.nan
    with pytest.raises(UserError, match=r"the checkpoint holds NaN \(outputs_bias\)"):
        c_files(policy)


def test_choices_beyond_32_bits_are_refused():
    with pytest.raises(UserError, match="do not fit the int32_t of a C file"):
        check_choices((2**31 - 3,), (4,))
    check_choices((2**31 - 4,), (4,))


def test_a_compiler_that_is_missing_or_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    policy = policy_of("discrete")
    with pytest.raises(UserError, match=r"(?s)policy\.c does not compile \(.*-std=c99.*\):.*error"):
        build(policy, tmp_path, policy_c={'#include "policy.h"': "#include nothing"})
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    with pytest.raises(UserError, match="the C compiler no-such-compiler does not start"):
        build(policy, tmp_path)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no C compiler found: install gcc or clang, or name yours in .* CC"):
        build(policy, tmp_path)


def test_a_program_that_breaks_off_is_told(tmp_path: Path):
    policy = policy_of("discrete")
    program = build(policy, tmp_path, policy_c={"(void)mask;": "*(volatile int *)0 = 0;"})
    arrays = {name: x.numpy() for name, x in own_inputs(policy, 3, seed=0).items()}
    with pytest.raises(UserError, match=r"the program of .*policy\.c ended with code -11"):
        program.play(arrays)

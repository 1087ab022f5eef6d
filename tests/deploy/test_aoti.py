"""A package of AOTInductor answers as the saved actor does, in Python and in C++; child processes may fail alone."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from deployed import EXAMPLES
from mappo.deploy import aoti_file
from mappo.deploy.build import build_agent_policy
from mappo.deploy.child import Child
from mappo.deploy.contract import make_contract
from mappo.deploy.export import export_agents
from mappo.deploy.formats import Arrays, UnavailableError
from mappo.deploy.record import record_steps
from mappo.deploy.verify import verify
from mappo.errors import UserError
from teams import ORIGIN, TEAMS, random_actor
from vectorized import from_factory

needs_compiler = pytest.mark.skipif(not aoti_file.find_compiler(), reason="needs a C++ compiler")


def contract_of(kind: str) -> tuple[Any, dict[str, Any]]:
    policy = build_agent_policy(random_actor(from_factory(TEAMS[kind].make, 1).spec, **TEAMS[kind].network).policy, 0)
    return policy, make_contract(policy, "a", ORIGIN)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays]:
    """Folder and record of an agent with memory, masks, statistics and unequal spaces."""
    env = from_factory(TEAMS["unequal-gru"].make, 1)
    actor = random_actor(env.spec, **TEAMS["unequal-gru"].network)
    records = record_steps(env, actor.policy, 1000, seed=3)
    out = tmp_path_factory.mktemp("aoti") / "out"
    export_agents(actor.policy, ["talker"], ["aoti"], out, ORIGIN, records)
    return out / "talker", records[1]


@needs_compiler
@pytest.mark.slow
def test_a_package_answers_as_the_saved_actor_does(exported: tuple[Path, Arrays]):
    folder, _ = exported
    (verdict,) = verify(folder, allow_code=True)
    assert (verdict.file, verdict.steps, verdict.problem, verdict.skipped) == ("policy_aoti.pt2", 1000, "", "")
    assert 0 < verdict.memory_error < 1e-4
    with pytest.raises(UserError, match="holds programs alone: add --allow-code"):
        verify(folder)


@needs_compiler
@pytest.mark.slow
def test_a_package_of_another_policy_is_refused(tmp_path: Path):
    env = from_factory(TEAMS["discrete-masks"].make, 1)
    actor = random_actor(env.spec, **TEAMS["discrete-masks"].network)
    records = record_steps(env, actor.policy, 60, seed=3)
    with pytest.raises(UserError, match=r"a cannot be exported, since .*policy_aoti\.pt2: WRONG, .*numbers differ"):
        export_agents(actor.policy, ["a"], ["aoti"], tmp_path, ORIGIN, records[::-1])


@needs_compiler
@pytest.mark.slow
def test_the_loop_in_cpp_repeats_the_record(exported: tuple[Path, Arrays], tmp_path: Path):
    folder, record = exported
    torch_folder = Path(torch.__file__).parent
    program = tmp_path / "agent"
    includes = [f"-I{torch_folder / 'include'}", f"-I{torch_folder / 'include/torch/csrc/api/include'}"]
    libraries = [f"-L{torch_folder / 'lib'}", f"-Wl,-rpath,{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    command = [*aoti_file.find_compiler(), "-std=c++20", "-O0", "-Wall", abi, *includes, EXAMPLES / "loop.cpp"]
    subprocess.run([*command, *libraries, "-o", program], check=True)
    rows = zip(record["is_first"], record["obs"], record["mask"], strict=True)
    lines = [" ".join(map(repr, [int(first), *obs.tolist(), *map(int, mask)])) for first, obs, mask in rows]
    text = "\n".join(lines[:200])
    run = subprocess.run([program, folder / "policy_aoti.pt2"], input=text, capture_output=True, text=True, check=True)
    assert [int(x) for x in run.stdout.split()] == record["action"][:200].tolist()
    assert record["is_first"][:200].sum() > 2
    for package, step, reason in (
        (folder / "policy_aoti.pt2", "1 0.5", "a step breaks off"),
        (tmp_path / "no", "", ""),
    ):
        run = subprocess.run([program, package], input=step, capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert str(package) in run.stderr
        assert reason in run.stderr


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    policy, contract = contract_of("discrete")
    with pytest.raises(UserError, match=r"--to aoti needs a C\+\+ compiler, .*install g\+\+"):
        aoti_file.write(policy, contract, tmp_path)


@needs_compiler
def test_a_failed_compiler_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"C++ compile error\nCommand: c++{' -x' * 2000}\nOutput:\nout of order\x1b")

    monkeypatch.setattr("mappo.deploy.tracing.trace", lambda _: None)
    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fail)
    policy, contract = contract_of("discrete")
    with pytest.raises(UserError, match=r"AOTInductor cannot compile the policy: .*-x\nOutput:\nout of order\\x1b$"):
        aoti_file.write(policy, contract, tmp_path)


def test_a_package_of_another_torch_is_not_run(tmp_path: Path):
    _, contract = contract_of("discrete")
    with pytest.raises(UnavailableError, match=r"it is compiled for torch 1\.0, and here is 2"):
        aoti_file.open(contract | {"torch": "1.0"}, tmp_path)


@pytest.mark.slow
def test_a_file_that_is_no_package_ends_its_own_process(tmp_path: Path):
    _, contract = contract_of("discrete")
    with zipfile.ZipFile(tmp_path / "policy_aoti.pt2", "w") as file:
        file.writestr("x", "y")
    with pytest.raises(UserError, match=r"the program of .*policy_aoti\.pt2 ended with code"):
        aoti_file.open(contract, tmp_path)


ENDLESS = "import time; print(end='x', flush=True); time.sleep(100)"


def test_a_program_that_does_not_answer_is_ended():
    child = Child([sys.executable, "-c", ENDLESS], "the program")
    assert child.read(1) == b"x"
    with (
        pytest.raises(UserError, match=r"the program did not answer within 0\.1 s and was ended"),
        child.time_limit(0.1),
    ):
        child.ask(b"0" * (1 << 20), 1)  # more than a pipe holds
    with pytest.raises(UserError, match="the program ended with code -"), child.time_limit(5):
        child.read(1)


def test_a_program_that_answers_in_time_goes_on():
    child = Child([sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read(2))"], "the program")
    with child.time_limit(60):
        assert child.ask(b"ab", 2) == b"ab"

"""`mappo export`: a run's agents as files, and their verification."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mappo
from mappo.cli.main import main
from mappo.system.files import digest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    settings = {"run.total_steps": 400, "env.num_envs": 8, "ppo.rollout_length": 25, "network.hidden": [8]}
    mappo.train("probe/unequal", settings | {"run.dir": str(path), "run.progress": "off", "network.precision": "bf16"})
    return path


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    mappo.load_run(run).export("agent_0", "c", out=out)
    return out / "agent_0"


def test_a_run_is_exported_and_verified(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["export", str(run), "--to", "pt2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    agents = mappo.load_actor(run).policy.spec.agents
    assert {x.name for x in out.iterdir()} == set(agents)
    assert shown.count("policy.pt2: right, 1,000 steps") == len(agents)
    assert main(["export", "--verify", str(out), "--allow-code"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["export", "--verify", str(out / agents[0]), "--allow-code"]) == 0
    file = out / agents[1] / "policy.pt2"
    file.write_bytes(file.read_bytes()[:-10])
    assert main(["export", "--verify", str(out), "--allow-code"]) == 2
    assert f"{file} is damaged" in capsys.readouterr().err


def test_onnx_files_are_verified_without_torch(run: Path, tmp_path: Path):
    verdicts = mappo.load_run(run).export("agent_1", out=tmp_path / "out")
    assert [str(v)[:18] for of_agent in verdicts.values() for v in of_agent] == ["policy.onnx: right"]
    code = "import sys; from mappo.cli.main import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, "export", "--verify", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a run, as in: mappo export RUN; or a folder"),
        (["RUN", "--verify", "x"], "name a run, as in: mappo export RUN; or a folder"),
        (["RUN", "--agent", "bob"], "there is no agent 'bob'; there are: agent_0"),
        (["RUN", "--checkpoint", "7"], "step 7"),
        (["nowhere"], "nowhere"),
        (["--verify", "nowhere"], "nowhere holds no exported policy"),
    ],
)
def test_wrong_words_get_a_message(words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", *(str(run) if word == "RUN" else word for word in words)]) == 2
    assert message in capsys.readouterr().err


def rename(contract: dict[str, Any], name: str) -> None:
    contract["files"][name] = contract["files"].pop("policy.c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: rename(x, "../policy.c"), "'../policy.c' is no name of a file"),
        (lambda x: rename(x, "a\0b"), "is no name of a file"),
        (lambda x: rename(x, "\ud800"), "is no name of a file"),
        (lambda x: rename(x, ".."), "a directory, not a file"),
        (lambda x: x.update(files={}), "names no file to replay"),
        (lambda x: x.pop("inputs"), "policy.c cannot be replayed"),
        (lambda x: x.update(memory="x"), "policy.c cannot be replayed"),
        (lambda x: x["action"]["heads"][0].update(options=10**12), "policy.c cannot be replayed"),
        (lambda x: x["inputs"][0].update(shape=["batch", 10**5]), "policy.c cannot be replayed"),
        (lambda x: x.update(memory=64), "policy.c ended with code 2"),
    ],
)
def test_a_contract_that_is_not_of_its_files_gets_a_message(
    change: Callable[[dict[str, Any]], object],
    message: str,
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    for file in exported.iterdir():
        os.link(file, tmp_path / file.name)
    contract = json.loads((exported / "contract.json").read_text())
    change(contract)
    (tmp_path / "contract.json").unlink()
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    assert main(["export", "--verify", str(tmp_path), "--allow-code"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_place_of_a_file_holds_nobody_up(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "contract.json").write_text((exported / "contract.json").read_text())
    os.mkfifo(tmp_path / "check.safetensors")
    assert main(["export", "--verify", str(tmp_path), "--allow-code"]) == 2
    assert "not a plain file" in capsys.readouterr().err


def test_programs_of_a_folder_run_only_with_consent(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A stranger's `policy.c` is compiled and run: its constructor would leave a file."""
    folder = tmp_path / "agent_0"
    shutil.copytree(exported, folder)
    mark = tmp_path / "it-ran"
    source = folder / "policy.c"
    planted = f'#include <stdio.h>\n__attribute__((constructor)) static void run(void) {{ fopen("{mark}", "w"); }}\n'
    source.write_text(source.read_text() + planted)
    contract = json.loads((folder / "contract.json").read_text())
    contract["files"]["policy.c"] = {"bytes": source.stat().st_size, "sha256": digest(source)}
    (folder / "contract.json").write_text(json.dumps(contract))
    assert main(["export", "--verify", str(folder)]) == 2
    assert "holds programs alone: add --allow-code" in capsys.readouterr().err
    assert not mark.exists()
    main(["export", "--verify", str(folder), "--allow-code"])
    assert mark.exists()

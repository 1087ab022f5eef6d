"""The programs and commands of docs/extending.md run."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mappo
from mappo.cli.main import main
from paths import ROOT

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
# Each program by its name, and the commands below it.
FOUND = re.findall(r"```python\n(# (\S+)\n.*?)```.*?```sh\n(.*?)```", PAGE, re.S)
PROGRAMS = {name: program for program, name, _ in FOUND}
COMMANDS = {name: commands.splitlines() for _, name, commands in FOUND}
FAST = ("my_loss.py", "my_ppo.py", "my_module.py", "my_command.py")
QUICK = [*("--run.total-steps", "40", "--env.num-envs", "4", "--ppo.rollout-length", "10", "--env.workers", "0")]
QUICK += [
    "--run.score-episodes",
    "0",
    "--run.replay-episodes",
    "0",
    "--run.eval-episodes",
    "2",
    "--run.progress",
    "off",
]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)
    monkeypatch.setattr("mappo.training.evaluator.Evaluator.measure_at_end", lambda *_: {})
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in PROGRAMS:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_loss_that_is_written_out_is_the_built_in_loss(folder: Path):
    assert main(["train", "spread", "--ppo.learner", "my_ppo:Written", "--run.name", "written", *QUICK]) == 0
    assert main(["train", "spread", "--run.name", "built-in", *QUICK]) == 0
    written, built_in = (mappo.load_run(f"runs/{name}").metrics for name in ("written", "built-in"))
    for name in ("total_loss", "policy_loss", "value_loss", "entropy", "approx_kl", "grad_norm_actor"):
        np.testing.assert_allclose(written[name], built_in[name], rtol=1e-3, atol=1e-5, err_msg=name)
        assert np.isfinite(written[name]).all()


def test_every_program_has_its_commands():
    assert len(PROGRAMS) == PAGE.count("```python") == 6
    for name, commands in COMMANDS.items():
        assert name.removesuffix(".py") in commands[0]


@pytest.mark.parametrize("name", [x if x in FAST else pytest.param(x, marks=pytest.mark.slow) for x in PROGRAMS])
def test_a_program_and_its_commands_run(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for command in COMMANDS[name]:
        program, *words = command.split()
        if program == "python":
            options = [word.replace("--", "--config.", 1) if word.startswith("--") else word for word in QUICK]
            monkeypatch.setattr(sys, "argv", [*words, *options])
            exec(compile(PROGRAMS[name], name, "exec"), {"__name__": "__main__"})
            assert re.search(r"best of 2: -\d+\.\d in ", capsys.readouterr().out)
        else:
            words = ["2" if word == "100" else word for word in words]
            assert main([*words, *(QUICK if words[0] == "train" else [])]) == 0, command
    run, column = {"my_loss.py": ("curious", "bonus"), "my_module.py": ("predicting", "prediction_loss")}.get(
        name, ("", "")
    )
    assert not run or mappo.load_run(f"runs/{run}").metrics[column][0] > 0

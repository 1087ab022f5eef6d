"""The programs and commands of docs/extending.md run."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mappo
from mappo.cli.main import main
from paths import ROOT

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
PROGRAMS = {
    block.partition("\n")[0].removeprefix("# "): block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S)
}
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
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


def test_every_program_has_a_command():
    assert len(PROGRAMS) == 5
    for name in PROGRAMS:
        assert any(name.removesuffix(".py") in command for command in COMMANDS)


def test_programs_and_commands_run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for command in COMMANDS:
        program, *words = command.split()
        if program == "python":
            monkeypatch.setattr(sys, "argv", [words[0]])
            options = [word.replace("--", "--config.", 1) if word.startswith("--") else word for word in QUICK]
            monkeypatch.setattr(sys, "argv", [*words, *options])
            exec(compile(PROGRAMS[words[0]], words[0], "exec"), {"__name__": "__main__"})
            assert re.search(r"best of 2: -\d+\.\d in ", capsys.readouterr().out)
            continue
        quick = QUICK if words[0] == "train" else []
        words = ["2" if word == "100" else word for word in words]
        assert main([*words, *quick]) == 0, command
    for run, column in (("curious", "bonus"), ("predicting", "prediction_loss")):
        assert mappo.load_run(f"runs/{run}").metrics[column][0] > 0

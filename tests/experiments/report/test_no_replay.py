"""The page of a run without a replay says why, and how the run gets one."""

import shutil
from pathlib import Path

import pytest

from mappo.cli.main import main
from mappo.experiments.report.report import report
from paths import ROOT
from recorded_runs import evaluated, record_run

SETTINGS = {"env.num-envs": 4, "ppo.rollout-length": 5, "ppo.minibatches": 1, "ppo.epochs": 1, "network.hidden": 4}
SETTINGS |= {"run.total-steps": 40, "run.score-episodes": 2}
SMALL = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]


def note(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    assert text.count("There is no replay") == 1
    return text[text.index("There is no replay") :].split("<")[0]


def test_an_environment_without_render_is_named_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "custom_env.py", "without_pictures.py")
    assert main(["train", "without_pictures:Corridor", "--run.name", "x", *SMALL]) == 0
    page = Path("runs/x/report.html")
    reason = "this environment draws no pictures: it has no method render() (docs/environments.md)."
    assert note(page) == f"There is no replay: {reason}"
    assert main(["report", "runs/x"]) == 0
    assert "for an environment with a method render() (docs/environments.md)" in note(page)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("spread", "There is no replay: mappo play RUN draws one, and mappo report RUN makes this page again."),
        ("my_module:make_env", "mappo play RUN draws one for an environment with a method render() (docs/env"),
        ("custom/Corridor", "mappo play cannot make the environment of a program. Train it by its name, such as my_"),
    ],
)
def test_the_way_to_a_replay_depends_on_the_environment(env: str, words: str, tmp_path: Path):
    assert words in note(report(record_run(tmp_path / "run", evaluated(-20), [-20.0], env)))

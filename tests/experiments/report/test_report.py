"""A page holds what the run's files hold: curves, scores, settings, the command that repeats the run, the replay."""

import base64
import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageSequence

import mappo
from mappo.cli.main import main
from mappo.cli.parsing import parse
from mappo.config import Config
from mappo.envs.batched.rendering import render_spread
from mappo.errors import UserError
from mappo.evaluation.gif import write_gif
from mappo.evaluation.statistics import mean_interval
from mappo.experiments.report.command_line import repeat_command
from mappo.experiments.report.curves import MAX_POINTS, thin
from mappo.experiments.report.report import report, report_at_end
from recorded_replay import film
from recorded_runs import BASE, OWN, changed, evaluated, record_run, record_study, write_config


def content(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found is not None
    return json.loads(found[1])


def lines(page: Path, chart: int = 0) -> dict[str, Any]:
    return {line["name"]: line for line in content(page)["charts"][chart]["views"][0]["lines"]}


def test_the_page_of_a_run_holds_its_curves_scores_and_settings(tmp_path: Path):
    run = record_run(tmp_path / "run", evaluated(-20), [-20.0, -22.0, -24.0], config=OWN)
    page = report(run)
    assert page == run / "report.html"
    curve = lines(page)
    assert curve["Greedy evaluation"]["x"] == [200, 400, 600, 800, 1000]
    assert curve["Greedy evaluation"]["y"] == pytest.approx([-28, -26, -24, -22, -20])
    assert curve["random"]["y"] == [-80]
    text = page.read_text()
    low, high = mean_interval(np.array([-20.0, -22.0, -24.0]))
    for shown in (
        "−22.0",
        f"{low:.1f} to {high:.1f}".replace("-", "−"),
        "network.critic-input",
        "3 episodes",
        "random",
    ):
        assert shown in text
    assert "There is no replay" in text


def test_the_page_of_several_seeds_has_the_mean_and_its_interval(tmp_path: Path):
    write_config(tmp_path / "all", "spread", changed(run={"seeds": 3}))
    for seed in (1, 2, 3):
        record_run(tmp_path / "all" / f"seed-{seed}", evaluated(seed), [seed, seed + 1], seed=seed)
    curve = lines(report(tmp_path / "all"))["Greedy evaluation"]
    assert curve["y"][-1] == pytest.approx(2)
    low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (curve["low"][-1], curve["high"][-1]) == pytest.approx((low, high), rel=1e-5)


def test_several_runs_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record_study(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    page = report(["runs"])
    assert page == Path("report.html")
    battle, spread = (lines(page, k) for k in (0, 1))
    assert battle["critic-input auto"]["color"] == spread["critic-input auto"]["color"]
    assert spread["critic-input own"]["y"][-1] == pytest.approx(-21)
    text = page.read_text()
    assert "P(best is better)" in text
    assert text.count("mappo train spread") == 2


TRIALS = """trial,state,eval_return,score,score_low,score_high,cpu_s,pareto,ppo.gamma,network.activation,error
0,complete,-30.0,-31.0,-32.0,-30.0,5.0,1,0.9,"""  # continued below
TRIALS += '''"""tanh""",
1,complete,-20.0,-21.0,-22.0,-20.0,9.0,1,0.99,"""relu""",
2,complete,-40.0,-41.0,-42.0,-40.0,9.5,0,0.95,"""relu""",
3,pruned,-60.0,,,,2.0,0,0.5,"""tanh""",
4,failed,,,,,,0,0.6,"""tanh""",boom
'''


def test_a_sweep_has_its_pareto_front_and_its_settings(tmp_path: Path):
    (tmp_path / "trials.csv").write_text(TRIALS)
    best = {"env": "spread", "config": changed(run={"seed": 4}).to_dict()}
    (tmp_path / "best.json").write_text(json.dumps(best))
    cost, over_settings = content(report(tmp_path))["charts"]
    view = cost["views"][0]
    assert view["front"] == [[5.0, -31.0], [9.0, -21.0]]
    assert [point["mark"] for point in view["points"]] == ["star", "dot", "dot"]
    gamma, activation = over_settings["views"]
    assert [point["x"] for point in gamma["points"]] == [0.9, 0.99, 0.95, 0.5]
    assert activation["choices"] == ['"relu"', '"tanh"']
    assert "--run.seed 5 --run.seeds 5" in (tmp_path / "report.html").read_text()


def test_a_replay_has_the_text_of_each_picture(tmp_path: Path):
    run = record_run(tmp_path / "run", evaluated(-20))
    film(run / "replay.gif")
    (replay,) = content(report(run))["replays"]
    assert (replay["width"], replay["height"]) == (60, 40)
    assert [frame["text"] for frame in replay["frames"]][:2] == [
        "episode 1, seed 7   step 0   return 0.00",
        "episode 1, seed 7   step 1   return -1.00",
    ]
    assert len(replay["frames"]) == 10
    assert replay["frames"][1]["x"] == 0
    assert replay["frames"][4]["ms"] > replay["frames"][3]["ms"], "the last picture of an episode stays long"


def test_the_pictures_of_a_replay_are_those_of_the_gif(tmp_path: Path):
    """Drawn one over the other, the small pictures give each picture of the GIF, to the pixel."""
    run = record_run(tmp_path / "run", evaluated(-20))
    places = [np.array([[0.1 * step, 0.2], [0.5, -0.1 * step]]) for step in range(4)]
    write_gif([[render_spread(agents, agents[:1] - 0.3, title="x") for agents in places]], run / "replay.gif")
    (replay,) = content(report(run))["replays"]
    canvas = Image.new("RGB", (replay["width"], replay["height"]))
    with Image.open(run / "replay.gif") as gif:
        for frame, picture in zip(replay["frames"], ImageSequence.Iterator(gif), strict=True):
            part = Image.open(io.BytesIO(base64.b64decode(frame["png"]))).convert("RGB")
            canvas.paste(part, (frame["x"], frame["y"]))
            assert np.array_equal(np.asarray(canvas), np.asarray(picture.convert("RGB")))


small = st.integers(1, 500)
CHANGES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "env": {"num_agents": st.none() | small, "options": st.sampled_from([[], ["a=1"], ["a=-1", 'b="x y"', "c={}"]])},
    "network": {
        "hidden": st.lists(small, min_size=1, max_size=3),
        "layer_norm": st.booleans(),
        "agent_id": st.none() | st.booleans(),
        "activation": st.sampled_from(["relu", "tanh"]),
    },
    "ppo": {
        "epochs": small,
        "gamma": st.floats(0, 1),
        "value_norm": st.booleans(),
        "value_clip": st.none() | st.floats(1e-6, 10),
        "lr_final": st.sampled_from([0.0, 0.5]),
    },
    "run": {"seed": st.integers(0, 2**62), "seeds": st.integers(1, 9), "graphs": st.booleans(), "keep_every": small},
}


changed_settings = st.fixed_dictionaries(
    {}, optional={section: st.fixed_dictionaries({}, optional=options) for section, options in CHANGES.items()}
)
envs = st.sampled_from(["spread", "battle", "probe/signal", "mpe2/simple_spread_v3"])
presets = st.sampled_from(["default", "paper"])


@settings(max_examples=6, deadline=None)  # a command line takes a quarter of a second to parse
@given(changed_settings, envs, presets)
def test_the_command_of_a_page_gives_the_settings_of_the_run(changes: dict[str, Any], env: str, preset: str):
    check_command(changes, env, preset)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(changed_settings, envs, presets)
def test_the_commands_of_many_pages_give_the_settings_of_the_runs(changes: dict[str, Any], env: str, preset: str):
    check_command(changes, env, preset)


def check_command(changes: dict[str, Any], env: str, preset: str) -> None:
    base = mappo.preset(env, preset) if preset == "default" or env == "spread" else mappo.preset(env)
    config = Config.from_dict(changes, replace(base, run=replace(base.run, dir="somewhere", progress="off")))
    program, *words = shlex.split(repeat_command(env, config))
    parsed = parse(words)
    assert (program, parsed.env) == ("mappo", env)
    assert parsed.config == replace(config, run=replace(config.run, dir=None, progress="auto"))


def test_an_environment_without_a_name_is_repeated_from_python():
    command = repeat_command("custom/Game", BASE)
    assert command.startswith("mappo.train(make_env, {")
    assert '"ppo.rollout_length": 10' in command


@given(st.integers(1, 5000))
def test_long_lines_are_thinned_to_means(count: int):
    steps, values = thin(np.arange(count, dtype=float), np.arange(count, dtype=float) * 2)
    assert len(steps) <= MAX_POINTS
    assert np.allclose(values, 2 * steps)


def test_the_command_line_writes_the_page_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = record_run(tmp_path / "run", evaluated(-20), [-20.0])
    out = tmp_path / "new" / "page.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the runs to report"),
        (["missing"], "there is no missing"),
        (["run", "--out", "page.txt"], "must end in .html"),
        (["run", "--out", "file/page.html"], "cannot write"),
    ],
)
def test_bad_input_gets_a_message(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    record_run(tmp_path / "run", evaluated(-20))
    (tmp_path / "file").touch()
    assert main(["report", *words]) == 2
    shown = capsys.readouterr().err
    assert message in shown.replace("\n", " ")
    assert not list(tmp_path.rglob("*.html"))


def test_a_link_in_place_of_the_page_is_not_followed(tmp_path: Path):
    run = record_run(tmp_path / "run", evaluated(-20))
    (tmp_path / "other").write_text("mine")
    (run / "report.html").symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="symbolic link"):
        report(run)
    assert (tmp_path / "other").read_text() == "mine"


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path):
    page = report(record_run(tmp_path / "run", {}))
    assert "No episode is finished yet" in page.read_text()


def test_a_page_that_cannot_be_written_costs_a_warning_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = record_run(tmp_path / "run", evaluated(-20))
    (run / "report.html").mkdir()
    assert report_at_end(run) is None
    assert f"no report: cannot write {run / 'report.html'}" in capsys.readouterr().err
    (run / "report.html").rmdir()
    assert report_at_end(run) == run / "report.html"
    assert {path.name for path in run.iterdir()} == {"config.json", "metrics.csv", "returns.csv", "report.html"}

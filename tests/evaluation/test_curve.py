from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from mappo.envs.batched.rendering import AGENT_COLORS, COLLISION, COVERED, render_spread
from mappo.evaluation import curve, series
from mappo.evaluation.curve import plot_curve
from mappo.evaluation.gif import write_gif

BASELINES = {"random": -128.4, "central planner": -39.2, "close by": -40.0}


def run_of(path: Path, updates: int, *, seeds: int = 1, eval_every: int = 5) -> Path:
    path.mkdir()
    lines = ["seed,update,step,entropy,eval_return,return_sum"]
    for seed in range(seeds):
        for index in range(1, updates + 1):
            evaluation = repr(-41.0 - seed) if index % eval_every == 0 else ""
            lines.append(f"{seed},{index},{6400 * index},0.5,{evaluation},{-120 + 70 * index / updates - seed}")
    (path / "metrics.csv").write_text("\n".join(lines) + "\n")
    return path


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image.convert("RGB"))


def count(picture: NDArray[np.uint8], color: tuple[int, int, int], *, within: int = 0) -> int:
    return int((np.abs(picture.astype(int) - color).max(axis=-1) <= within).sum())


ORANGE, BLUE, GREEN = (213, 94, 0), (0, 114, 178), (0, 158, 115)


def test_curve_shows_returns_evaluations_and_baselines(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 40)
    assert plot_curve(run, BASELINES) == run / "curve.png"
    picture = pixels(run / "curve.png")
    assert picture.shape == (750, 1200, 3)
    assert min(count(picture, color) for color in (ORANGE, BLUE, GREEN)) > 500
    assert sorted(path.name for path in run.iterdir()) == ["curve.png", "metrics.csv"]


def test_a_long_title_covers_nothing_and_stays_in_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    draw = curve._draw_footer
    monkeypatch.setattr(curve, "_draw_footer", lambda figure, text: (figures.append(figure), draw(figure, text)))
    run = run_of(tmp_path / "run", 8)
    name = "foraging/Foraging-2s-10x10-3p-3f-coop-v3 with options of its own and another limit of time, 2 seeds"
    plot_curve(run, BASELINES, title=name, tables=[run / "metrics.csv"] * 2)
    (axes,) = figures[0].axes
    boxes = [x.get_window_extent() for x in (axes._left_title, axes._right_title, axes.yaxis.label) if x.get_text()]  # pyright: ignore
    assert all(figures[0].bbox.x0 <= box.x0 and box.x1 <= figures[0].bbox.x1 for box in boxes)
    assert all(figures[0].bbox.y0 <= box.y0 and box.y1 <= figures[0].bbox.y1 for box in boxes)
    assert not any(box.overlaps(boxes[0]) for box in boxes[1:])
    assert "95 % interval of 2 seeds" in axes.get_ylabel()


@pytest.mark.parametrize("updates", [0, 1, 2])
@pytest.mark.parametrize("baselines", [{}, BASELINES, {"random": float("nan")}])
def test_curve_of_a_run_just_begun(tmp_path: Path, updates: int, baselines: dict[str, float]) -> None:
    picture = pixels(plot_curve(run_of(tmp_path / "run", updates), baselines))
    assert picture.shape == (750, 1200, 3)
    assert (count(picture, BLUE) > 20) == (updates > 0)
    assert count(picture, ORANGE) == 0  # no evaluation yet
    assert (count(picture, GREEN) > 0) == (baselines == BASELINES)


def test_curve_of_several_seeds_has_a_band(tmp_path: Path) -> None:
    one = pixels(plot_curve(run_of(tmp_path / "one", 40), {}, title="spread"))
    three = pixels(plot_curve(run_of(tmp_path / "three", 40, seeds=3), {}, tmp_path / "new/x.png", title="spread"))
    band = (246, 220, 199)  # orange at 22 % on white
    assert count(one, band, within=1) < 100
    assert count(three, band, within=1) > 2000
    assert not (tmp_path / "three/curve.png").exists()


@pytest.mark.parametrize(("policy", "other"), [("greedy", "Sampled"), ("sampled", "Greedy")])
def test_curve_names_the_policy_of_the_evaluations_and_shows_the_other(tmp_path: Path, policy: str, other: str) -> None:
    purple = (123, 50, 148)
    run = run_of(tmp_path / "run", 40)
    assert count(pixels(plot_curve(run, {}, policy=policy)), purple) == 0
    assert count(pixels(plot_curve(run, {}, policy=policy, at_end=-60.0)), purple) > 50
    axes = Figure().add_subplot()
    training, evaluation = series.read_returns([run / "metrics.csv"])
    curve._draw_seeds(axes, training, evaluation, policy, -60.0)
    names = ["Training (sampled)", f"{policy.capitalize()} evaluation", f"{other} at the end"]
    assert axes.get_legend_handles_labels()[1] == ["Training (sampled)", "Training, smoothed", *names[1:]]
    axes = Figure().add_subplot()
    curve._draw_seeds(axes, series.read_returns([run_of(tmp_path / "short", 9) / "metrics.csv"])[0], [], policy, -60.0)
    assert axes.get_legend_handles_labels()[1] == [names[0], names[-1]], "nine updates are not smoothed"


@given(st.integers(10, 400), st.floats(-100, 100), st.floats(-5, 5))
def test_smoothing_keeps_a_straight_line_at_its_ends_too(length: int, start: float, slope: float):
    line = start + slope * np.arange(length)
    assert np.allclose(series.smooth(line), line, atol=1e-6)


def test_smoothing_removes_noise_and_follows_the_first_updates():
    rise = -80 + 50 * (1 - np.exp(-np.arange(600) / 60))
    noisy = rise + np.random.default_rng(0).normal(0, 5, 600)
    error = series.smooth(noisy) - rise
    assert np.abs(error).mean() < 1.5 < np.abs(noisy - rise).mean()
    assert np.abs(error[:20]).max() < 5, "a plain window at the edge would average 80 updates of the rise"


def test_baselines_show_their_intervals_and_settings_stand_below(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 40)
    grey = (234, 234, 234)  # the first baseline's grey at 12 % on white
    plain = pixels(plot_curve(run, {"random": -90.0}))
    banded = pixels(plot_curve(run, {"random": -90.0}, intervals={"random": (-95.0, -85.0)}, footer="preset default"))
    assert count(plain, grey, within=1) < 1000 < count(banded, grey, within=1)
    corner = np.s_[-30:, :60]
    assert plain[corner].min() > 240
    assert banded[corner].min() < 200


def test_curve_leaves_out_a_line_being_written(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 10)
    before = pixels(plot_curve(run, {}))
    with (run / "metrics.csv").open("a") as file:
        file.write("0,11,70400,0.5,,-9999")
    assert np.array_equal(pixels(plot_curve(run, {})), before)


def test_curve_shows_the_latest_returns_where_no_episode_ended(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 40)
    table = run / "metrics.csv"
    lines = table.read_text().splitlines()
    cut = [line.rpartition(",")[0] + "," for line in lines[1:]]
    table.write_text("\n".join([lines[0] + ",return_latest", *(f"{line},-50.0" for line in cut)]) + "\n")
    assert count(pixels(plot_curve(run, {})), BLUE) > 500
    table.write_text("\n".join([lines[0], *cut]) + "\n")
    assert count(pixels(plot_curve(run, {})), BLUE) == 0


def test_curve_names_missing_columns(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("seed,step,loss\n0,1,2\n")
    with pytest.raises(ValueError, match="lacks the columns return_sum, eval_return"):
        plot_curve(tmp_path, {})


def scene(step: int, title: str = "", caption: str = "") -> NDArray[np.uint8]:
    agents = np.array([[-1.0, 0.1 * step], [0.5, 0.5], [0.8, -0.1 * step]])
    return render_spread(agents, np.array([[0.5, 0.55], [-1.0, -1.0]]), title=title, caption=caption)


def test_gif_repeats_the_frames(tmp_path: Path) -> None:
    frames = [scene(step, title=f"step {step} of 5") for step in range(5)]
    write_gif([frames], tmp_path / "new/episode.gif")
    with Image.open(tmp_path / "new/episode.gif") as gif:
        assert (gif.format, gif.size, gif.info["loop"]) == ("GIF", (480, 548), 0)
        assert gif.info["duration"] == 120  # 8 a second, in hundredths
        shown = [np.array(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(gif)]
    assert len(shown) == 5
    for frame, picture in zip(frames, shown, strict=True):
        assert np.abs(picture - frame).mean() < 3
        assert count(frame, COVERED) > 40
        assert count(picture, COVERED, within=16) > 40
    # Where nothing moves nothing flickers.
    assert all(np.array_equal(picture[-80:], shown[0][-80:]) for picture in shown)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["episode.gif"]


def test_gif_refuses_frames_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_gif([], tmp_path / "x.gif")
    with pytest.raises(ValueError, match=r"got uint8 \(479, 480, 3\) after \(480, 480, 3\)$"):
        write_gif([[scene(0), scene(1)[:-1]]], tmp_path / "x.gif")
    with pytest.raises(ValueError, match=r"got uint8 \(480, 480\)$"):
        write_gif([[scene(0)[..., 0]]], tmp_path / "x.gif")
    with pytest.raises(ValueError, match="uint8"):
        write_gif([[scene(0)], [scene(1)[:-1]]], tmp_path / "x.gif")
    with pytest.raises(ValueError, match="uint8"):
        write_gif([[scene(0).astype(np.float32)]], tmp_path / "x.gif")  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_drawing_grows_by_strips_for_its_texts() -> None:
    assert scene(0).shape == (480, 480, 3)
    titled = scene(0, title="episode 1 of 4", caption="return -12.4")
    assert titled.shape == (548, 480, 3)
    assert titled.dtype == np.uint8
    assert titled.flags.writeable
    assert titled[:34].min() < 100  # ink
    assert titled[-34:].min() < 100
    assert render_spread(np.zeros((1, 2)), np.zeros((1, 2)), size=240).shape == (240, 240, 3)


@pytest.mark.parametrize(("distance", "covered"), [(0.0, True), (0.09, True), (0.11, False)])
def test_landmark_is_green_when_an_agent_is_within_a_tenth(distance: float, covered: bool) -> None:
    picture = render_spread(np.array([[distance, 0.0], [1.0, 1.0]]), np.zeros((1, 2)))
    assert (count(picture, COVERED) > 40) == covered
    rows, columns = np.nonzero((picture == COVERED).all(axis=-1))
    if covered:
        assert max(abs(rows.mean() - 240), abs(columns.mean() - 240)) < 2


@pytest.mark.parametrize(("distance", "collided"), [(0.29, True), (0.31, False)])
def test_colliding_agents_get_red_outlines(distance: float, collided: bool) -> None:
    picture = render_spread(np.array([[0.0, 0.0], [0.0, distance], [1.0, 1.0]]), np.zeros((0, 2)))
    assert (count(picture, COLLISION) > 100) == collided
    assert count(picture[:150, 300:], COLLISION) == 0  # the third agent, at the upper right


def test_agents_are_placed_with_y_upwards_and_kept_in_the_picture() -> None:
    landmarks = np.zeros((0, 2))
    blue, orange = AGENT_COLORS[:2]
    picture = render_spread(np.array([[-1.0, 1.0], [9.0, -9.0]]), landmarks)
    assert count(picture[:240, :240], blue, within=8) > 50
    assert count(picture, blue, within=8) == count(picture[:240, :240], blue, within=8)
    # Outside the view: in the corner, with a filled arrow head that an agent standing there lacks.
    there = render_spread(np.array([[-1.0, 1.0], [1.5, -1.5]]), landmarks)
    assert count(picture[380:, 380:], orange, within=8) > count(there[380:, 380:], orange, within=8) + 50


def test_trails_are_drawn_in_the_agents_colors() -> None:
    agents, landmarks = np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((0, 2))
    still = render_spread(agents, landmarks)
    moved = render_spread(agents, landmarks, trails=[agents - 0.8, agents - 0.4])
    changed = (still != moved).any(axis=-1)
    assert changed[300, 180]  # on the way from (-0.8, -0.8) to the origin
    assert not changed[:, 400:].any()


def test_eleven_agents_can_be_drawn() -> None:
    assert len(set(AGENT_COLORS)) == 10
    assert render_spread(np.random.default_rng(0).uniform(-1, 1, (11, 2)), np.zeros((11, 2))).std() > 0

"""The figure of a comparison: no text covers another, and no baseline and no band is lost."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from mappo.experiments.compare.comparison import compare
from mappo.experiments.compare.figure import make_figure
from recorded_runs import changed, record_run

ENVS = ("foraging/Foraging-2s-10x10-3p-3f-v3", "foraging/Foraging-8x8-2p-2f-coop-v3", "spread", "battle", "reference")
LONG = "a critic with the observation of its agent"
STEPS = range(100, 1001, 100)


def figure_of(
    folder: Path, num_envs: int = 1, num_groups: int = 2, name: str = "MAPPO", width: float = 0.05, **baselines: float
) -> Figure:
    """A figure of five seeds for each group, with returns between 0 and 1."""
    words: list[str] = []
    for group in range(num_groups):
        for k, env in enumerate(ENVS[:num_envs]):
            for seed in range(5):
                noise = np.random.default_rng([group, k, seed]).normal(0, width, 10)
                returns = 1 - np.exp(-np.arange(10) / (3 + group)) + noise.cumsum()
                games = {step: [float(value)] for step, value in zip(STEPS, returns, strict=True)}
                config = changed(ppo={"actor_lr": (group + 1) / 1000}, env={"time_limit": 100} if k == 1 else {})
                others = {name.replace("_", " "): [value] for name, value in baselines.items()}
                record_run(folder / f"{group}-{k}-{seed}", games, [0.5], env, config, seed, baselines=others)
        words.append(f"{name} {group}={folder}/{group}-*")
    figure = make_figure(compare(words))
    FigureCanvasAgg(figure).draw()
    return figure


def boxes(figure: Figure) -> dict[str, Any]:
    """The places of all texts of the panels by panel and text; those on the numbers of an axis are not among them."""
    found: dict[str, Any] = {}
    for k, axes in enumerate(figure.axes):
        titles = [axes.title, axes._left_title, axes._right_title]  # pyright: ignore
        for text in [*axes.texts, *titles, axes.xaxis.label, axes.yaxis.label]:
            if text.get_text():
                found[f"{k} {text.get_text()}"] = text.get_window_extent()
    return found


@pytest.mark.parametrize(
    ("num_envs", "num_groups", "name"), [(1, 6, "MAPPO"), (2, 3, "MAPPO"), (2, 4, LONG), (2, 8, LONG), (5, 1, "IPPO")]
)
def test_no_text_covers_another_or_leaves_the_figure(num_envs: int, num_groups: int, name: str, tmp_path: Path):
    figure = figure_of(tmp_path, num_envs, num_groups, name, random=0.02, planner=0.93, planner_of_pairs=0.94)
    found = boxes(figure)
    assert len(found) >= num_envs * 7
    for (one, box), (other, other_box) in combinations(found.items(), 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), f"{one!r} and {other!r}"
    for text, box in found.items():
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text


def test_each_panel_shows_each_baseline_and_a_far_one_by_its_mean(tmp_path: Path):
    figure = figure_of(tmp_path, 2, width=0.0, random=0.02, planner=17.25, oracle=40.0, greedy=-3.0, nearest=-30.0)
    for axes in figure.axes:
        texts = [text.get_text() for text in axes.texts]
        assert {"random", "planner 17.2 \N{UPWARDS ARROW}", "greedy -3.000 \N{DOWNWARDS ARROW}"} < set(texts)
        assert "nearest -30.0 \N{DOWNWARDS ARROW}" in texts
        low, high = axes.get_ylim()
        assert -3 < low < high < 17
        curves = np.concatenate([line.get_ydata() for line in axes.lines])
        inside = axes.transData.transform([(0.0, curves.min()), (0.0, curves.max())])
        for text in axes.texts:
            if text.get_text().endswith(("\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}")):
                box = text.get_window_extent()
                assert box.y0 > inside[1, 1] or box.y1 < inside[0, 1], "a far name covers a curve"


def test_the_name_of_a_far_baseline_covers_no_other_name(tmp_path: Path):
    near = {f"planner_{k}": 1.2 + k / 100 for k in range(4)}
    found = boxes(figure_of(tmp_path, width=0.0, far=40.0, **near))
    assert len(found) >= 8
    for (one, box), (other, other_box) in combinations(found.items(), 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), f"{one!r} and {other!r}"


@pytest.mark.parametrize(("width", "baselines"), [(0.05, {}), (5.0, {}), (0.5, {"random": -3.5, "planner": 4.5})])
def test_a_band_ends_within_its_panel_or_the_panel_says_that_it_is_cut(
    width: float, baselines: dict[str, float], tmp_path: Path
):
    """The lines of baselines may make room for a band that would be cut without them."""
    (axes,) = figure_of(tmp_path, width=width, **baselines).axes
    bands = [part for part in axes.collections if isinstance(part, PolyCollection)]
    heights = np.concatenate([band.get_paths()[0].vertices[:, 1] for band in bands])
    low, high = axes.get_ylim()
    is_cut = any("wide intervals are cut" in text.get_text() for text in axes.texts)
    assert is_cut == (width > 1)
    assert is_cut == (heights.min() < low or heights.max() > high)
    if not is_cut:
        assert min(heights.min() - low, high - heights.max()) > 0.01 * (high - low), "room between band and edge"


def test_the_name_of_a_baseline_goes_below_its_line_where_a_curve_ends_just_above(tmp_path: Path):
    (axes,) = figure_of(tmp_path, 1, 1, width=0.0, planner=0.93).axes
    (name,) = [text for text in axes.texts if text.get_text() == "planner"]
    ends = [line.get_ydata()[-1] for line in axes.lines if len(line.get_ydata()) == 10]
    assert 0 < ends[0] - 0.93 < 0.05
    assert name.get_window_extent().y1 < axes.transData.transform((0, 0.935))[1]

"""The tables of a comparison: what is bold, what is said of seeds, and numbers in one piece."""

import re
from pathlib import Path

import pytest

from mappo.cli.compare_results import _print_comparison
from mappo.experiments.compare.comparison import compare
from mappo.experiments.compare.tables import list_tables, to_latex
from recorded_runs import changed, evaluated, record_run


def bold(folder: Path, best: list[float], *others: list[float]) -> list[str]:
    """The bold cells of the LaTeX table of groups of runs with these scores."""
    words: list[str] = []
    for group, scores in enumerate([best, *others]):
        for seed, score in enumerate(scores):
            config = changed(ppo={"actor_lr": (group + 1) / 1000})
            record_run(folder / f"{group}-{seed}", evaluated(0), [score, score + 0.5], config=config, seed=seed)
        words.append(f"group {group}={folder}/{group}-*")
    return re.findall(r"^(.*) & \$\\mathbf", to_latex(compare(words)), re.M)


def test_a_mean_is_bold_only_where_its_seeds_show_it_higher_than_each_other_mean(tmp_path: Path):
    high, low, near = [20.0, 21.0, 22.0], [10.0, 11.0, 12.0], [18.0, 20.0, 22.0]
    assert bold(tmp_path / "higher", low, high) == ["group 1"]
    assert bold(tmp_path / "near", high, near) == []
    assert bold(tmp_path / "one near", high, low, near) == []
    assert bold(tmp_path / "alone", high) == []
    assert bold(tmp_path / "single seeds", [20.0], [10.0]) == []
    assert bold(tmp_path / "a single seed", high, [10.0]) == []


def test_the_numbers_of_seeds_stand_beside_the_means_where_they_differ(tmp_path: Path):
    for name, count in (("a", 3), ("b", 2)):
        for seed in range(count):
            record_run(tmp_path / f"{name}{seed}", evaluated(-20.0 - seed), [-20.0 - seed], seed=seed)
    latex = to_latex(compare([f"A={tmp_path}/a*", f"B={tmp_path}/b*"]))
    assert "seeds & 2 to 3 " in latex
    assert re.search(r"^A & \$.*\$ \(3\) ", latex, re.M)
    assert re.search(r"^B & \$.*\$ \(2\) ", latex, re.M)


@pytest.mark.parametrize("size", [1.0, 100.0, 100_000.0])
def test_no_number_is_split_in_80_columns(
    size: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("COLUMNS", "80")
    for group in range(2):
        for seed in range(3):
            config = changed(ppo={"actor_lr": (group + 1) / 1000})
            score = [-size * (10 + group + seed / 10), -size * (12 + group)]
            record_run(tmp_path / f"{group}-{seed}", evaluated(-10.0), score, config=config, seed=seed)
    comparison = compare([f"critic of its own observation {k}={tmp_path}/{k}-*" for k in range(2)])
    _print_comparison(comparison)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for _, _, rows in list_tables(comparison):
        for row in rows:
            for text, interval in row[1:]:
                assert text in shown
                assert all(end in shown for end in interval.split(" to "))
                assert interval in shown or size > 100

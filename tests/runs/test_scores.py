"""The returns of a score are kept whole, and a lesser score does not replace them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mappo.errors import UserError
from mappo.runs import scores
from mappo.runs.scores import Score, read_score, save_score

SCORE = Score("spread", "0.2", 320, 1_000_000, {"greedy": [1.0, -0.1, 1 / 3], "sampled": [2, 3, 4]}, {"random": [0, 1]})


def test_a_score_is_read_back_as_it_was(tmp_path: Path):
    assert read_score(tmp_path) is None
    save_score(tmp_path, SCORE)
    assert read_score(tmp_path) == SCORE
    assert [path.name for path in tmp_path.iterdir()] == ["score.json"]


def test_fewer_episodes_of_the_same_step_replace_nothing(tmp_path: Path):
    save_score(tmp_path, SCORE)
    fewer = replace(SCORE, returns={"greedy": [9.0], "sampled": [9.0]})
    save_score(tmp_path, fewer)
    assert read_score(tmp_path) == SCORE
    later = replace(fewer, step=640)
    save_score(tmp_path, later)
    assert read_score(tmp_path) == later
    (tmp_path / "score.json").write_text("{")
    save_score(tmp_path, fewer)
    assert read_score(tmp_path) == fewer


def test_the_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scores, "MAX_KEPT", 2)
    save_score(tmp_path, SCORE)
    found = read_score(tmp_path)
    assert found is not None
    assert (found.returns, found.num_episodes) == ({"greedy": [1.0, -0.1], "sampled": [2, 3]}, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"returns": {"greedy": [1, "2"]}}, "'greedy' in 'returns' must be a list of numbers"),
        ({"returns": {"greedy": 1}}, "'greedy' in 'returns' must be a list of numbers"),
        ({"baselines": {"random": [True]}}, "'random' in 'baselines' must be a list of numbers"),
        ({"baselines": []}, "'baselines' must be an object"),
        ({"step": "3"}, "'step' must be of type int"),
        ({"format": 3}, "has format 3, this version reads 2"),
    ],
)
def test_a_damaged_score_is_told(change: dict[str, object], words: str, tmp_path: Path):
    save_score(tmp_path, SCORE)
    data = json.loads((tmp_path / "score.json").read_text())
    (tmp_path / "score.json").write_text(json.dumps(data | change))
    with pytest.raises(UserError, match=words):
        read_score(tmp_path)


def test_a_score_that_cannot_be_written_costs_a_warning(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"the score is not kept in .*score\.json: No such file or directory"):
        save_score(tmp_path / "gone", SCORE)

"""A part of what `make fuzz` draws."""

from pathlib import Path

import pytest

import fuzz

LONGER = ("--run.dir", "new", "--run.total-steps", "80")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> fuzz.Place:
    return fuzz.Place(tmp_path_factory.mktemp("fuzz").resolve())


def test_nothing_drawn_ends_in_a_traceback_or_writes_elsewhere(place: fuzz.Place):
    fuzz.fuzz(place, 100, seed=0)
    assert place.codes[0] > 10, "some are right"
    assert place.codes[2] > 40


def test_what_is_known_to_be_wrong_is_refused(place: fuzz.Place):
    for args, code in (
        (["train", "probe/signal", "--ppo.gama", "1"], 2),
        (["train", "probe/signal", "--ppo.gamma"], 2),
        (["train", "probe/signal", "--ppo.gamma", "0.9", "--ppo.gamma", "x"], 2),
        (["train"], 2),
        (["nope"], 2),
        (["resume", "nowhere"], 2),
        (["train", "probe/signal", *fuzz.TINY, *LONGER, "--run.time-limit", "1e-9"], 3),
        (["train", "probe/signal", *fuzz.TINY, "--run.dir", "new"], 0),
        (["evaluate", "run", "--episodes", "2"], 0),
        (["envs"], 0),
        ([], 0),
    ):
        place.fresh()
        assert place.call(args, typed=True) == code, args


def test_what_writes_elsewhere_is_seen(place: fuzz.Place):
    """Of the harness itself."""
    place.fresh()
    Path(place.folder, "elsewhere").touch()
    with pytest.raises(AssertionError, match="elsewhere"):
        place.call(["envs"])
    Path(place.folder, "elsewhere").unlink()

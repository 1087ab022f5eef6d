"""Text for a terminal: rows between words, and no change in a pipe or a file."""

import io
import os
import pty
import sys

import pytest
from hypothesis import given, strategies as st

from mappo.system.stdio import fold, say, terminal_width


@given(st.text(st.sampled_from("ab -./\n"), max_size=200), st.integers(5, 60))
def test_folding_keeps_all_words_whole(text: str, width: int):
    rows = fold(text, width).split("\n")
    assert " ".join(rows).split() == text.split()
    for row in rows:
        assert len(row) <= width or len(row.split()) <= 1


def test_further_rows_are_indented():
    assert fold("  learning curve and replay\nend", 18) == "  learning curve\n    and replay\nend"


def test_a_file_gets_whole_lines_and_a_terminal_whole_words():
    words = "mappo: " + "observation " * 20
    file = io.StringIO()
    say(words, file)
    assert file.getvalue() == words + "\n"
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal:
        say(words, terminal)
        shown = os.read(reader, 10_000).decode()
    os.close(reader)
    assert shown.split() == words.split()
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(("columns", "width"), [("33", 33), ("wide", 80), ("0", 80), ("-5", 80)])
def test_the_width_is_asked_for_by_columns(columns: str, width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width(io.StringIO()) == width
    monkeypatch.setattr(sys, "stdout", None)
    assert terminal_width() == width

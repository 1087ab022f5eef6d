"""Exceptions that end a run in an orderly way, and parts of their messages. Every room may import them."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Error that the user can fix: the command line prints the message alone and exits with code 2."""


class LostError(Exception):
    """Another process of the run is lost: the run can be started again. The program exits with code 4.

    Without a message: another process shows it.
    """


class ElsewhereError(Exception):
    """Another process of the run has ended with an error, and shows it. The program exits with code 2, silently."""


class StopTraining(Exception):
    """Request of a callback to end a run early: the run is saved, and can be resumed."""


def shorten(texts: Sequence[str], most: int) -> str:
    """Return the first texts as a list, with the number of the others."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def suggest(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6, prefix: str = "") -> str:
    """Return the hint behind a name that is not known: `; did you mean 'spread'?`, or `.` if no name is similar.

    Args:
        name: the name as the user typed it.
        known: all valid names.
        count: largest number of names in the hint.
        cutoff: least similarity of a name in the hint, from 0 to 1.
        prefix: printed before each name of the hint.
    """
    similar = difflib.get_close_matches(name, list(known), count, cutoff)
    return f"; did you mean {' or '.join(repr(prefix + x) for x in similar)}?" if similar else "."

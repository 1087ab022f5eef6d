"""A stand-in for trackio, with the calls that mappo makes, as its documentation describes them."""

import contextvars
from typing import Any

from notes import note

current: contextvars.ContextVar[Any] = contextvars.ContextVar("current", default=None)


class Image:
    def __init__(self, file: str) -> None:
        self.file = file


Video = Image


class Run:
    def __init__(self, name: str) -> None:
        self.name = name

    def log(self, values: dict[str, Any], step: int) -> None:
        pictures = {name: x.file for name, x in values.items() if isinstance(x, Image)}
        note("picture" if pictures else "log", id=self.name, step=step, values=pictures or values)

    def finish(self) -> None:
        note("finish", id=self.name)


def init(**arguments: Any) -> Run:
    if current.get() is not None:
        current.get().finish()  # as trackio does
    note("init", **arguments)
    run = Run(arguments["name"])
    current.set(run)
    return run

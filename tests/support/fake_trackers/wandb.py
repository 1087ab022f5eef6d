"""A stand-in for wandb, with the calls that mappo makes, as its documentation describes them."""

import os
from typing import Any

from notes import note

if os.environ.get("FAULT") == "missing":
    raise ModuleNotFoundError("No module named 'wandb'", name="wandb")
note("import")


class Settings:
    def __init__(self, console: str, init_timeout: float) -> None:
        assert console == "off"


class Image:
    def __init__(self, file: str, format: str | None = None) -> None:
        self.file = file


Video = Image


class Run:
    def __init__(self, id: str) -> None:
        self.id = id

    def log(self, values: dict[str, Any], step: int) -> None:
        pictures = {name: x.file for name, x in values.items() if isinstance(x, Image)}
        note("picture" if pictures else "log", id=self.id, step=step, values=pictures or values)

    def finish(self) -> None:
        note("finish", id=self.id)


def init(**arguments: Any) -> Run:
    assert isinstance(arguments.pop("settings"), Settings)
    note("init", **arguments)
    return Run(arguments["id"])

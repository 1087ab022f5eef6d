"""Blocks and commands of the pages in Markdown."""

import re
from typing import NamedTuple

from paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("sh", "bash", "console", "shell")


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(*found) for found in re.findall(r"^```([^\n`]*)\n(.*?)^```$", page, re.M | re.S)]


def commands(block: str) -> list[str]:
    """Return the commands of a block of shell, one a line, without comments; a loop is a single command."""
    joined = re.sub(r"\\\n\s*", "", block)
    joined = re.sub(r"^for .*?^done$", lambda loop: _in_one_line(loop[0]), joined, flags=re.M | re.S)
    lines = [re.sub(r"(^|\s)#\s.*", "", line).strip() for line in joined.splitlines()]
    return [" ".join(line.split()) for line in lines if line]


def _in_one_line(loop: str) -> str:
    return loop.replace(" do\n", " do ").replace("\n", "; ")


def without_blocks(page: str) -> str:
    """Return the text of a page outside of its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)

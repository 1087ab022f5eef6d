"""The live panel is as wide as its terminal, and shows as many columns of metrics as fit."""

import io

import pytest
from rich.console import Console

from mappo.training.live_view import LiveView


@pytest.mark.parametrize(("width", "rows"), [(50, 0), (80, 4), (200, 2)])
def test_the_panel_follows_the_width_of_the_terminal(width: int, rows: int):
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(LiveView(1000, "spread", console)._render())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert {len(line) for line in lines if line} == {width}
    shown = [line for line in lines if "KL" in line or "Clip" in line or "Entropy" in line or "Explained" in line]
    assert len(shown) == rows

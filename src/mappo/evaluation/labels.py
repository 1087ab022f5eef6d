"""Style of the figures, and labels beside their lines, moved apart where lines are close. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mappo.system.safe_read import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXT = "#333333"


def style_axes(axes: Axes, label_size: float = 10) -> None:
    """Draw a pale grid behind the curves, and axes without a box."""
    axes.grid(color="#E3E3E3", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, length=0, labelsize=label_size)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#BBBBBB")


def label_right(axes: Axes, text: str, height: float, color: str, **style: Any) -> None:
    """Write a text at the right end of the axes, by default beside it, at the height of a line.

    Args:
        axes: the axes.
        text: the label; only line breaks remain of its control characters.
        height: height of the line, in data.
        color: colour of the text.
        style: further properties of the annotation in matplotlib.
    """
    defaults: dict[str, Any] = {"xytext": (6, 0), "va": "center", "size": 9}
    axes.annotate(
        printable(text, keep="\n"),
        (1.0, height),
        textcoords="offset points",
        xycoords=axes.get_yaxis_transform(),
        color=color,
        annotation_clip=False,
        parse_math=False,
        **defaults | style,
    )


def spread_apart(heights: Mapping[str, float], gap: float, ceiling: float) -> dict[str, float]:
    """Return a height for each label, as near to its own as a distance of `gap` to the next label allows.

    Args:
        heights: height of each label's line.
        gap: least distance of two labels.
        ceiling: highest place of a label.
    """
    floor = -math.inf
    placed: dict[str, float] = {}
    for name in sorted(heights, key=lambda name: heights[name]):
        floor = max(heights[name], floor + gap)
        placed[name] = floor
    for name in reversed(placed):
        placed[name] = min(placed[name], ceiling)
        ceiling = placed[name] - gap
    return placed

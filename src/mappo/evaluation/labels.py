"""Labels beside the lines of a picture, moved apart where lines are close. Loads no torch."""

import math
from collections.abc import Mapping


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

"""Pictures of warehouses. The environment imports this module in `render` alone, because Pillow takes time to load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mappo.envs.batched.rendering import AGENT_COLORS, COVERED, Canvas, Color
from mappo.envs.batched.warehouse_layout import MOVES

if TYPE_CHECKING:
    from mappo.envs.batched.warehouse import Warehouse

_AISLE = (247, 248, 250)
_PLACE = (228, 231, 236)  # a place for a shelf
_LINE = (216, 220, 226)
SHELF = (150, 158, 170)
REQUESTED = (242, 164, 58)
_DARK = (64, 70, 82)
_WIDTH = 480  # pixels


def render_warehouse(env: Warehouse, index: int) -> NDArray[np.uint8]:
    """Render a warehouse: shelves are grey, requested shelves orange, goals green.

    Args:
        env: the environments.
        index: number of the environment.

    Returns:
        An image `(H, W, 3)`.
    """
    layout = env.layout
    state = {name: x[index].cpu().numpy() for name, x in env.state_tensors().items()}
    canvas = _FloorCanvas(env.rules.highways)
    for goal in env.rules.goals:
        canvas.goal(goal)
    codes = state["shelves"]
    cells = codes.nonzero()[0]
    robots = zip(*layout.rows_and_columns(state["cell"]), strict=True)
    directions: list[int] = state["direction"].tolist()
    for cell, code in zip(zip(*layout.rows_and_columns(cells), strict=True), codes[cells], strict=True):
        canvas.shelf(cell, REQUESTED if code & 1 else SHELF)
    for number, cell in enumerate(robots):
        is_loaded = bool(state["load"][number])
        canvas.robot(cell, MOVES[directions[number]], AGENT_COLORS[number % 10], str(number + 1), is_loaded)
    title = f"step {state['clock']} of {env.horizon}"
    return canvas.finish(title, f"deliveries: {state['deliveries']}")


class _FloorCanvas(Canvas):
    """A supersampled picture of a floor, in rows and columns of cells.

    Args:
        highways: cells without a place for a shelf, bool `(H, W)`.
    """

    def __init__(self, highways: np.ndarray) -> None:
        self._highways = highways
        rows, columns = highways.shape
        super().__init__(_WIDTH, height=round(_WIDTH * rows / columns))

    def _field(self) -> None:
        rows, columns = self._highways.shape
        self._unit = self._size / columns
        for row in range(rows):
            for column in range(columns):
                color = _AISLE if self._highways[row, column] else _PLACE
                self._box((row, column), 0.5, 0, fill=color, outline=_LINE, width=self._width(0.7))

    def goal(self, cell: tuple[int, int]) -> None:
        """Mark a goal."""
        self._box(cell, 0.5, 0, fill=(*COVERED, 70), outline=COVERED, width=self._width(2))

    def shelf(self, cell: tuple[int, int], color: Color) -> None:
        """Draw a shelf with its boards."""
        self._box(cell, 0.42, 0.1, fill=color, outline=_DARK, width=self._width(1))
        x, y = self._centre(cell)
        for offset in (-0.16, 0.16):
            ends = (x - 0.3 * self._unit, y + offset * self._unit, x + 0.3 * self._unit, y + offset * self._unit)
            self._draw.line(ends, fill=(*_DARK, 90), width=self._width(1))

    def robot(self, cell: tuple[int, int], ahead: tuple[int, int], color: Color, number: str, is_loaded: bool) -> None:
        """Draw a robot with its number; an arrow shows its direction, and a dark rim its load."""
        x, y = self._centre(cell)
        down, right = ahead
        radius = 0.31 * self._unit
        rim = _DARK if is_loaded else (255, 255, 255)
        self._disc((x, y), radius, fill=color, outline=rim, width=self._width(2.5 if is_loaded else 1.5))
        base, tip, half = 0.26 * self._unit, 0.47 * self._unit, 0.17 * self._unit
        corners = [
            (x + tip * right, y + tip * down),
            (x + base * right + half * down, y + base * down + half * right),
            (x + base * right - half * down, y + base * down - half * right),
        ]
        self._draw.polygon(corners, fill=_DARK)
        self._write((x, y), number, 0.3 * self._unit / self._px)

    def _centre(self, cell: tuple[int, int]) -> tuple[float, float]:
        row, column = cell
        return (column + 0.5) * self._unit, self._top + (row + 0.5) * self._unit

    def _box(self, cell: tuple[int, int], half: float, rounding: float, **style: Any) -> None:
        """Draw a rounded square around the middle of a cell; `half` its side and `rounding` are parts of the cell."""
        x, y = self._centre(cell)
        side = half * self._unit
        box = (x - side, y - side, x + side, y + side)
        self._draw.rounded_rectangle(box, rounding * self._unit, **style)

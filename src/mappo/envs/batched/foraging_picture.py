"""Pictures of foraging: a board of cells with players and food. `Foraging.render` alone imports this module."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mappo.envs.batched.rendering import AGENT_COLORS, COLLISION, COVERED, VIEW, Canvas, Color

FOOD: Color = (214, 69, 56)
_WOOD: Color = (110, 78, 52)
_STALK = ((0, 0.8), (0.15, 1.35))  # points, in radii of the apple from its middle
_LEAF = ((0.15, 1.05), (0.45, 1.4), (0.95, 1.3), (0.6, 0.95))
_PIXELS = 143  # pixels per unit of length, see `Canvas`
_CELLS: tuple[Color, Color] = ((244, 246, 240), (234, 239, 228))


class Board(Canvas):
    """A picture of a square board of cells, which are numbered row by row.

    Args:
        size: cells of a row.
    """

    def __init__(self, size: int) -> None:
        self._cells = size
        self.cell = 2 * VIEW / size  # side of a cell in world units
        super().__init__()

    def _field(self) -> None:
        for cell in range(self._cells**2):
            centre = self.centre(cell)
            half = np.array([0.5, -0.5]) * self.cell
            corners = (*self._at(centre - half), *self._at(centre + half))
            self._draw.rectangle(corners, fill=_CELLS[sum(divmod(cell, self._cells)) % 2])

    def centre(self, cell: int) -> NDArray[np.floating[Any]]:
        """Return the world point in the middle of a cell."""
        row, column = divmod(cell, self._cells)
        return np.array([(column + 0.5) * self.cell - VIEW, VIEW - (row + 0.5) * self.cell])

    def food(self, cell: int, level: int) -> None:
        """Draw food as an apple with its level."""
        centre = self.centre(cell)
        radius = 0.33 * self.cell
        stalk, leaf = ([self._at(centre + radius * np.array(point)) for point in shape] for shape in (_STALK, _LEAF))
        self._draw.line(stalk, fill=_WOOD, width=self._width(0.06 * self.cell * _PIXELS))
        self._draw.polygon(leaf, fill=COVERED)
        self._disc(self._at(centre), radius * self._unit, fill=FOOD)
        self._level(centre, level)

    def player(self, point: NDArray[np.floating[Any]], scale: float, level: int, color: Color, pay: float) -> None:
        """Draw a player with its level: green rim after a reward, red rim after a penalty.

        Args:
            point: world point of its middle.
            scale: 1 for a player alone in its cell, less for several.
            level: its level.
            color: its colour.
            pay: its last reward.
        """
        radius = 0.36 * scale * self.cell
        self._disc(self._at(point), radius * self._unit, fill=color)
        if pay:
            rim = {"outline": COVERED if pay > 0 else COLLISION, "width": self._width(4)}
            self._disc(self._at(point), 1.22 * radius * self._unit, **rim)
        self._level(point, level)

    def _level(self, point: NDArray[np.floating[Any]], level: int) -> None:
        self._write(self._at(point), str(level), max(9, 0.34 * self.cell * _PIXELS))


def render_foraging(
    size: int,
    cell: NDArray[np.integer[Any]],
    level: NDArray[np.integer[Any]],
    pay: NDArray[np.floating[Any]],
    food: NDArray[np.integer[Any]],
    food_level: NDArray[np.integer[Any]],
    title: str,
    caption: str,
) -> NDArray[np.uint8]:
    """Render a game, uint8 `(H, W, 3)`: players as discs and food as apples, with their levels.

    Args:
        size: cells of a row of the board.
        cell: cells of the players, `(P,)`.
        level: their levels, `(P,)`.
        pay: their last rewards, `(P,)`.
        food: cells of the food, `(F,)`.
        food_level: levels of the food, 0 for food that is gone, `(F,)`.
        title: text above the board.
        caption: text below the board.
    """
    board = Board(size)
    for place, amount in zip(food.tolist(), food_level.tolist(), strict=True):
        if amount:
            board.food(place, amount)
    shared = Counter[int](cell.tolist())
    drawn = Counter[int]()
    for player, place in enumerate(cell.tolist()):
        together = shared[place]
        aside = (drawn[place] - (together - 1) / 2) / together * 0.9 * board.cell
        drawn[place] += 1
        color = AGENT_COLORS[player % len(AGENT_COLORS)]
        point = board.centre(place) + np.array([aside, 0.0])
        board.player(point, 1.0 if together == 1 else 0.6, int(level[player]), color, float(pay[player]))
    return board.finish(title, caption)

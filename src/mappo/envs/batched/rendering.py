"""Pictures of particle worlds: `Canvas` draws a field with agents and landmarks.

The environments import this module in `render` alone, because Pillow and its fonts take time to load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

# Ten hues without the green and the red of "covered" and "collision".
AGENT_COLORS = (
    (45, 114, 217),
    (242, 142, 43),
    (142, 91, 208),
    (23, 162, 184),
    (232, 108, 178),
    (140, 98, 70),
    (222, 184, 20),
    (96, 110, 130),
    (52, 58, 150),
    (134, 200, 238),
)
COVERED = (22, 155, 70)
UNCOVERED = (60, 60, 60)
COLLISION = (220, 38, 38)
SPEAKER = (96, 110, 130)
LISTENER = AGENT_COLORS[1]
LANDMARK_COLORS = {
    "red": (208, 46, 46),
    "green": (22, 155, 70),
    "blue": (45, 114, 217),
}  # names and colours in captions
COVERED_WITHIN = 0.1  # distance between the centres of a covered landmark and its nearest agent
VIEW = 1.5  # agents with coordinates from -VIEW to VIEW are drawn at their place

_HALF = 1.68  # half the picture's width in world units: leaves room for whole discs at the border of the view
_SCALE = 3  # supersampling, for smooth edges
_BACKGROUND = (255, 255, 255)
_FIELD = (250, 250, 251)
_GRID = (232, 234, 237)
_AXIS = (208, 211, 216)
_INK = (40, 44, 52)


def render_spread(
    agents: NDArray[np.floating[Any]],
    landmarks: NDArray[np.floating[Any]],
    *,
    agent_radius: float = 0.15,
    landmark_radius: float = 0.05,
    trails: Sequence[NDArray[np.floating[Any]]] = (),
    title: str = "",
    caption: str = "",
    size: int = 480,
) -> NDArray[np.uint8]:
    """Render agents and landmarks; an agent outside the view appears at its border with an arrow.

    Args:
        agents: positions `(A, 2)` in world coordinates.
        landmarks: positions `(L, 2)` in world coordinates.
        agent_radius: radius of an agent in world units.
        landmark_radius: radius of a landmark in world units.
        trails: earlier positions of the agents `(A, 2)`, oldest first.
        title: text above the field.
        caption: text below the field.
        size: width of the image in pixels.

    Returns:
        An image `(H, W, 3)`. H equals W; a title or a caption adds a strip above and a strip below.
    """
    canvas = Canvas(size, has_strips=bool(title or caption))
    colors = [AGENT_COLORS[agent % 10] for agent in range(len(agents))]
    canvas.trails([*trails, agents], colors)
    collided = _collided(agents, 2 * agent_radius)
    for agent, position in enumerate(agents):
        canvas.agent(position, agent_radius, colors[agent], bool(collided[agent]))
    for landmark in landmarks:
        nearest = np.linalg.norm(agents - landmark, axis=1).min(initial=math.inf)
        canvas.landmark(landmark, landmark_radius, bool(nearest < COVERED_WITHIN))
    for agent, position in enumerate(agents):
        canvas.number(position, agent_radius, str(agent + 1))
    return canvas.finish(title, caption)


def _collided(agents: NDArray[np.floating[Any]], distance: float) -> NDArray[np.bool_]:
    apart = np.linalg.norm(agents[:, None] - agents[None], axis=-1)
    np.fill_diagonal(apart, math.inf)
    return (apart < distance).any(axis=1)


class Canvas:
    """A supersampled picture of a field, in world coordinates from -1.68 to 1.68.

    Args:
        size: width of the finished image in pixels.
        has_strips: True for a strip above and a strip below the field, for title and caption.
        height: height of the field in pixels; None for a square.
    """

    def __init__(self, size: int = 480, has_strips: bool = True, height: int | None = None) -> None:
        strip = round(size * 0.07) if has_strips else 0
        height = height or size
        self._image = Image.new("RGB", (size * _SCALE, (height + 2 * strip) * _SCALE), _BACKGROUND)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self._size = size * _SCALE
        self._height = height * _SCALE
        self._top = strip * _SCALE
        self._unit = self._size / (2 * _HALF)  # pixels per unit of length
        self._px = self._size / 480  # line widths and fonts grow with the picture
        self._field()

    def _at(self, point: NDArray[np.floating[Any]]) -> tuple[float, float]:
        """Return the pixel of a world point; y points up in the world and down in the picture."""
        return self._unit * (_HALF + float(point[0])), self._top + self._unit * (_HALF - float(point[1]))

    def _disc(self, centre: tuple[float, float], radius: float, **style: Any) -> None:
        x, y = centre
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), **style)

    def _width(self, pixels: float) -> int:
        return max(1, round(pixels * self._px))

    def _field(self) -> None:
        self._draw.rectangle((0, self._top, self._size, self._top + self._size), fill=_FIELD)
        for place in np.arange(-1.5, 1.51, 0.5):
            x, y = self._at(np.array([place, place]))
            color = _AXIS if place in (-VIEW, 0.0, VIEW) else _GRID
            self._draw.line((x, self._top, x, self._top + self._size), fill=color, width=self._width(1))
            self._draw.line((0, y, self._size, y), fill=color, width=self._width(1))

    def trails(self, places: Sequence[Any], colors: Sequence[Color]) -> None:
        """Draw a fading line for each agent.

        Args:
            places: positions `(A, 2)` of all agents, oldest first.
            colors: colour of each agent.
        """
        for agent, color in enumerate(colors):
            pixels = [self._at(positions[agent]) for positions in places]
            for step, ends in enumerate(pairwise(pixels), start=1):
                fade = step / len(pixels)
                self._draw.line(ends, fill=(*color, round(220 * fade)), width=self._width(1 + 3 * fade))

    def agent(self, point: NDArray[np.floating[Any]], radius: float, color: Color, collided: bool) -> None:
        """Draw an agent as a disc, with a rim if it has collided; outside the view it has an arrow."""
        shown = np.clip(point, -VIEW, VIEW)
        centre = self._at(shown)
        size = radius * self._unit
        self._disc(centre, size, fill=(*color, 120), outline=(*color, 255), width=self._width(2))
        if collided:
            self._disc(centre, size + 2 * self._px, outline=COLLISION, width=self._width(3))
        outside = point - shown
        distance = float(np.linalg.norm(outside))
        if distance > 0.0:
            # An arrow head on the rim points to the agent's true position.
            ahead = outside / distance * radius
            aside = 0.45 * np.array([-ahead[1], ahead[0]])
            corners = [shown + 1.1 * ahead, shown + 0.55 * ahead + aside, shown + 0.55 * ahead - aside]
            self._draw.polygon([self._at(corner) for corner in corners], fill=color)

    def number(self, point: NDArray[np.floating[Any]], radius: float, number: str) -> None:
        """Write an agent's number."""
        # The number stands above the centre, so that the landmark below a well placed agent stays visible.
        x, y = self._at(np.clip(point, -VIEW, VIEW))
        self._write((x, y - 0.58 * radius * self._unit), number, 15)

    def landmark(self, point: NDArray[np.floating[Any]], radius: float, covered: bool) -> None:
        """Draw a landmark with a cross, filled if it is covered."""
        x, y = self._at(point)
        size = radius * self._unit + self._px
        fill = COVERED if covered else _BACKGROUND
        ink = _BACKGROUND if covered else UNCOVERED
        self._disc((x, y), size, fill=fill, outline=COVERED if covered else UNCOVERED, width=self._width(2))
        arm = 0.42 * size
        for slope in (1, -1):
            ends = (x - arm, y - slope * arm, x + arm, y + slope * arm)
            self._draw.line(ends, fill=ink, width=self._width(2))

    def flag(self, point: NDArray[np.floating[Any]], radius: float, color: Color, is_goal: bool) -> None:
        """Draw a landmark with a colour of its own, inside a ring if it is the goal."""
        centre = self._at(point)
        size = radius * self._unit
        self._disc(centre, size, fill=color)
        if is_goal:
            self._disc(centre, 2.5 * size, outline=color, width=self._width(3))

    def bubble(self, point: NDArray[np.floating[Any]], radius: float, text: str) -> None:
        """Draw a speech bubble above the agent at a point."""
        x, y = self._at(point)
        high, wide, tail, foot = (self._px * pixels for pixels in (26, 32, 12, 5))
        mouth = y - radius * self._unit - 3 * self._px
        base = mouth - tail
        box = (x - wide / 2, base - high, x + wide / 2, base)
        self._draw.rounded_rectangle(box, 7 * self._px, fill=_BACKGROUND, outline=_INK, width=self._width(2))
        # The tail opens into the box: the polygon covers the outline between its feet.
        inside = base - 2.5 * self._px
        self._draw.polygon([(x - foot, inside), (x + foot, inside), (x, mouth)], fill=_BACKGROUND)
        for side in (-foot, foot):
            self._draw.line((x + side, base, x, mouth), fill=_INK, width=self._width(2))
        self._write((x, base - high / 2), text, 18)

    def finish(self, title: str, caption: str) -> NDArray[np.uint8]:
        """Write title and caption into the strips, over all that reaches into them; return the image `(H, W, 3)`."""
        bottom = self._top + self._height
        for y, text in ((0, title), (bottom, caption)):
            self._draw.rectangle((0, y, self._size, y + self._top), fill=_BACKGROUND)
            self._write((0.5 * self._size, y + 0.5 * self._top), text, 16)
        return np.array(self._image.reduce(_SCALE))

    def _write(self, centre: tuple[float, float], text: str, pixels: float) -> None:
        # A light rim keeps numbers readable where lines and landmarks pass below them.
        style: dict[str, Any] = {"stroke_width": self._width(1.5), "stroke_fill": (*_BACKGROUND, 200), "anchor": "mm"}
        self._draw.text(centre, text, fill=_INK, font=_font(round(pixels * self._px)), **style)


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)

"""Pictures of particle worlds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Ten hues without the green and the red that mean "covered" and "collision".
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
SPEAKER, LISTENER = (96, 110, 130), AGENT_COLORS[1]
LANDMARK_COLORS = {"red": (208, 46, 46), "green": (22, 155, 70), "blue": (45, 114, 217)}  # of speaker_listener
COVERED_WITHIN = 0.1  # distance between the centres of a landmark and its nearest agent
VIEW = 1.5  # agents with coordinates from -VIEW to VIEW are shown where they are

_HALF = 1.68  # half the picture's width in the world: leaves room for whole discs at the border of the view
_SCALE = 3  # supersampling, for smooth edges
_BACKGROUND, _FIELD, _GRID, _AXIS = (255, 255, 255), (250, 250, 251), (232, 234, 237), (208, 211, 216)
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
    """Draw agents (A, 2) and landmarks (L, 2), in world coordinates, as an image (H, W, 3).

    W is `size`, and H too; with a `title` or a `caption` a strip for each of them is added to H. `trails`
    holds earlier agent positions (A, 2), oldest first. Agents outside the view are drawn at its border
    with an arrow.
    """
    strip = round(size * 0.07) if title or caption else 0
    image = Image.new("RGB", (size * _SCALE, (size + 2 * strip) * _SCALE), _BACKGROUND)
    canvas = Canvas(ImageDraw.Draw(image, "RGBA"), size * _SCALE, strip * _SCALE)
    canvas.field()
    for agent in range(len(agents)):
        canvas.trail([positions[agent] for positions in [*trails, agents]], AGENT_COLORS[agent % 10])
    collided = _collided(agents, 2 * agent_radius)
    for agent, position in enumerate(agents):
        canvas.agent(position, agent_radius, AGENT_COLORS[agent % 10], bool(collided[agent]))
    for landmark in landmarks:
        nearest = np.linalg.norm(agents - landmark, axis=1).min(initial=math.inf)
        canvas.landmark(landmark, landmark_radius, bool(nearest < COVERED_WITHIN))
    for agent, position in enumerate(agents):
        canvas.number(position, agent_radius, str(agent + 1))
    canvas.captions(title, caption)
    return np.array(image.reduce(_SCALE))


def render_speaker_listener(
    speaker: NDArray[np.floating[Any]],
    listener: NDArray[np.floating[Any]],
    landmarks: NDArray[np.floating[Any]],
    *,
    goal: int,
    word: int | None,
    trail: Sequence[NDArray[np.floating[Any]]] = (),
    title: str = "",
    size: int = 480,
) -> NDArray[np.uint8]:
    """Draw a speaker (2,), a listener (2,) and three landmarks (3, 2) as an image (H, W, 3), H above W = `size`.

    A ring marks the landmark `goal`, a bubble at the speaker holds the `word` last said, as A, B or C. `trail` holds
    earlier places of the listener (2,), oldest first. One outside the view is drawn at its border with an arrow.
    """
    strip = round(size * 0.07)
    image = Image.new("RGB", (size * _SCALE, (size + 2 * strip) * _SCALE), _BACKGROUND)
    canvas = Canvas(ImageDraw.Draw(image, "RGBA"), size * _SCALE, strip * _SCALE)
    canvas.field()
    canvas.trail([*trail, listener], LISTENER)
    canvas.agent(speaker, 0.075, SPEAKER, False)
    canvas.agent(listener, 0.075, LISTENER, False)
    for place, (landmark, color) in enumerate(zip(landmarks, LANDMARK_COLORS.values(), strict=True)):
        canvas.flag(landmark, 0.045, color, place == goal)  # smaller than agents, which stay visible below
    canvas.bubble(speaker, 0.075, "..." if word is None else "ABC"[word])
    distance = float(np.linalg.norm(listener - landmarks[goal]))
    canvas.captions(title, f"the goal is {list(LANDMARK_COLORS)[goal]}, {distance:.2f} away from the listener")
    return np.array(image.reduce(_SCALE))


def _collided(agents: NDArray[np.floating[Any]], distance: float) -> NDArray[np.bool_]:
    apart = np.linalg.norm(agents[:, None] - agents[None], axis=-1)
    np.fill_diagonal(apart, math.inf)
    return (apart < distance).any(axis=1)


class Canvas:
    """Draws world coordinates onto a supersampled picture; `size` and `top` are in its pixels."""

    def __init__(self, draw: ImageDraw.ImageDraw, size: int, top: int) -> None:
        self._draw = draw
        self._size = size
        self._top = top
        self._unit = size / (2 * _HALF)  # pixels per unit of length
        self._px = size / 480  # line widths and fonts grow with the picture

    def _at(self, point: NDArray[np.floating[Any]]) -> tuple[float, float]:
        """Pixel of a world point; y points up in the world and down in the picture."""
        return self._unit * (_HALF + float(point[0])), self._top + self._unit * (_HALF - float(point[1]))

    def _disc(self, centre: tuple[float, float], radius: float, **style: Any) -> None:
        x, y = centre
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), **style)

    def _width(self, pixels: float) -> int:
        return max(1, round(pixels * self._px))

    def field(self) -> None:
        self._draw.rectangle((0, self._top, self._size, self._top + self._size), fill=_FIELD)
        for place in np.arange(-1.5, 1.51, 0.5):
            x, y = self._at(np.array([place, place]))
            color = _AXIS if place in (-VIEW, 0.0, VIEW) else _GRID
            self._draw.line((x, self._top, x, self._top + self._size), fill=color, width=self._width(1))
            self._draw.line((0, y, self._size, y), fill=color, width=self._width(1))

    def trail(self, points: Sequence[NDArray[np.floating[Any]]], color: tuple[int, int, int]) -> None:
        pixels = [self._at(point) for point in points]
        for place, (start, end) in enumerate(pairwise(pixels), start=1):
            fade = place / len(points)
            self._draw.line((start, end), fill=(*color, round(220 * fade)), width=self._width(1 + 3 * fade))

    def agent(
        self, point: NDArray[np.floating[Any]], radius: float, color: tuple[int, int, int], collided: bool
    ) -> None:
        shown = np.clip(point, -VIEW, VIEW)
        centre, size = self._at(shown), radius * self._unit
        self._disc(centre, size, fill=(*color, 120), outline=(*color, 255), width=self._width(2))
        if collided:
            self._disc(centre, size + 2 * self._px, outline=COLLISION, width=self._width(3))
        outside = point - shown
        distance = float(np.linalg.norm(outside))
        if distance > 0.0:
            # An arrow head on the rim points to where the agent really is.
            ahead = outside / distance * radius
            aside = 0.45 * np.array([-ahead[1], ahead[0]])
            corners = [shown + 1.1 * ahead, shown + 0.55 * ahead + aside, shown + 0.55 * ahead - aside]
            self._draw.polygon([self._at(corner) for corner in corners], fill=color)

    def number(self, point: NDArray[np.floating[Any]], radius: float, number: str) -> None:
        # Above the centre, where the landmark of a well placed agent stays visible.
        x, y = self._at(np.clip(point, -VIEW, VIEW))
        self._write((x, y - 0.58 * radius * self._unit), number, 15)

    def landmark(self, point: NDArray[np.floating[Any]], radius: float, covered: bool) -> None:
        (x, y), size = self._at(point), radius * self._unit + self._px
        fill, ink = (COVERED, _BACKGROUND) if covered else (_BACKGROUND, UNCOVERED)
        self._disc((x, y), size, fill=fill, outline=COVERED if covered else UNCOVERED, width=self._width(2))
        arm = 0.42 * size
        for slope in (1, -1):
            ends = (x - arm, y - slope * arm, x + arm, y + slope * arm)
            self._draw.line(ends, fill=ink, width=self._width(2))

    def flag(self, point: NDArray[np.floating[Any]], radius: float, color: tuple[int, int, int], goal: bool) -> None:
        """A landmark with a colour of its own; one that is the goal inside a ring."""
        centre, size = self._at(point), radius * self._unit
        self._disc(centre, size, fill=color)
        if goal:
            self._disc(centre, 2.5 * size, outline=color, width=self._width(3))

    def bubble(self, point: NDArray[np.floating[Any]], radius: float, text: str) -> None:
        """What the agent at a point says, above it."""
        x, y = self._at(point)
        high, wide, tail, foot = (self._px * pixels for pixels in (26, 32, 12, 5))
        mouth = y - radius * self._unit - 3 * self._px
        base = mouth - tail
        box = (x - wide / 2, base - high, x + wide / 2, base)
        self._draw.rounded_rectangle(box, 7 * self._px, fill=_BACKGROUND, outline=_INK, width=self._width(2))
        # The tail opens into the box: it covers the outline between its feet.
        inside = base - 2.5 * self._px
        self._draw.polygon([(x - foot, inside), (x + foot, inside), (x, mouth)], fill=_BACKGROUND)
        for side in (-foot, foot):
            self._draw.line((x + side, base, x, mouth), fill=_INK, width=self._width(2))
        self._write((x, base - high / 2), text, 18)

    def captions(self, title: str, caption: str) -> None:
        """Cover the strips above and below the field and write into them."""
        bottom = self._top + self._size
        for y, text in ((0, title), (bottom, caption)):
            self._draw.rectangle((0, y, self._size, y + self._top), fill=_BACKGROUND)
            self._write((0.5 * self._size, y + 0.5 * self._top), text, 16)

    def _write(self, centre: tuple[float, float], text: str, pixels: float) -> None:
        # A light rim keeps numbers readable where lines and landmarks pass below them.
        rim, font = self._width(1.5), _font(round(pixels * self._px))
        style: dict[str, Any] = {"stroke_width": rim, "stroke_fill": (*_BACKGROUND, 200), "anchor": "mm"}
        self._draw.text(centre, text, fill=_INK, font=font, **style)


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)

"""Captions below the pictures of environments without captions of their own, in replays."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mappo.evaluation.gif import Frame
from mappo.system.safe_read import printable

# Pictures with sides below this many pixels are enlarged, by a whole number.
LEAST_SIZE = 320
# Least width of a picture with a caption, and the height of the caption, in pixels.
_LEAST_WIDTH = 320
_HEIGHT = 40
_FONT_SIZE = 14
_INK = (40, 44, 52)
_PAPER = (255, 255, 255)


def is_picture(frame: Frame) -> bool:
    """Return whether a frame is a picture uint8 `(H, W, 3)`."""
    return frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size > 0


def add_caption(frame: Frame, title: str, text: str) -> Frame:
    """Enlarge a small picture, and write two lines below it; the writer of the file refuses all but pictures."""
    if not is_picture(frame):
        return frame
    factor = -(-LEAST_SIZE // max(frame.shape[:2]))
    frame = frame.repeat(factor, 0).repeat(factor, 1)
    height, width = frame.shape[:2]
    image = Image.new("RGB", (max(width, _LEAST_WIDTH), height + _HEIGHT), _PAPER)
    image.paste(Image.fromarray(frame), ((image.width - width) // 2, 0))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT_SIZE)
    for line, y in ((title, height + 3), (text, height + 20)):
        draw.text((image.width / 2, y), _fit(printable(line, keep=""), font, image.width - 8), _INK, font, "ma")
    return np.array(image)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return the text, without its beginning where it is too wide."""
    shown = text
    while shown and font.getlength(shown) > width:
        text = text[1:]
        shown = f"…{text}"
    return shown

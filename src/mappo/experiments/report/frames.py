"""Pictures of a replay for a page, from its GIF: each picture is a small PNG of the pixels that changed."""

import base64
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from mappo.system.files import error_text
from mappo.system.safe_read import open_plain, quote

# Largest files in bytes, most pictures, and largest width and height in pixels.
MAX_GIF = 1 << 25
MAX_FRAMES = 2000
MAX_SIDE = 1500
# Bytes of all pictures on a page.
MAX_BYTES = 3_000_000


def read_replay(file: Path, most: int = MAX_BYTES) -> tuple[dict[str, Any], str]:
    """Read a GIF as pictures for `page/replay.js`.

    Args:
        file: the GIF.
        most: bytes of all pictures; further pictures are left out.

    Returns:
        `width`, `height` and `frames`, each with `x`, `y`, `png` (in base64), `ms` and `text`; and a note, "" if the
        whole replay is there. Of a file that cannot be read the dict is empty, and the note says why.
    """
    try:
        with open_plain(file, MAX_GIF) as stream, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream, formats=["GIF"]) as image:
                return _read_frames(image, most)
    except OSError as error:
        return {}, f"{file.name} cannot be read: {quote(error_text(error))}"
    except Exception as error:  # a damaged GIF raises any error in the decoder
        return {}, f"{file.name} is damaged: {quote(str(error))}"


def _read_frames(image: Image.Image, most: int) -> tuple[dict[str, Any], str]:
    """Return the pictures of an open GIF, see `read_replay`."""
    frames: list[dict[str, Any]] = []
    former: Image.Image | None = None
    total = 0
    note = ""
    for index in range(MAX_FRAMES + 1):
        try:
            image.seek(index)
        except EOFError:
            break
        if max(image.size) > MAX_SIDE:
            raise ValueError(f"pictures of {image.size[0]:,} x {image.size[1]:,} pixels are too large")
        picture = image.convert("RGB")
        x, y, png = _changed(picture, former)
        total += len(png) * 4 // 3
        if total > most or index == MAX_FRAMES:
            note = f"The first {index:,} pictures of the replay are shown; the others are left out."
            break
        comment: Any = image.info.get("comment", b"")
        frames.append(
            {
                "x": x,
                "y": y,
                "ms": min(max(int(image.info.get("duration", 100)), 20), 10_000),
                "png": base64.b64encode(png).decode(),
                "text": quote(comment.decode(errors="replace")) if isinstance(comment, bytes) else "",
            }
        )
        former = picture
    return {"width": image.width, "height": image.height, "frames": frames}, note


def _changed(picture: Image.Image, former: Image.Image | None) -> tuple[int, int, bytes]:
    """Return the smallest rectangle with all changed pixels: its left upper corner, and its picture as a PNG."""
    box = (0, 0, *picture.size)
    if former is not None and former.size == picture.size:
        box = ImageChops.difference(picture, former).getbbox() or (0, 0, 1, 1)
    part = picture.crop(box)
    part.info = {}  # the transparent colour of the GIF is none of this picture
    stream = io.BytesIO()
    _with_palette(part).save(stream, "PNG")
    return box[0], box[1], stream.getvalue()


def _with_palette(image: Image.Image) -> Image.Image:
    """Return a picture of few colours with a palette, the same to the pixel: its file is half as large."""
    if not image.getcolors(256):
        return image
    pixels = np.asarray(image)
    # Pillow's own way to a given palette rounds: close colours become one.
    colors, indices = np.unique(pixels.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
    result = Image.fromarray(indices.astype(np.uint8).reshape(pixels.shape[:2]))
    result.putpalette(np.stack([colors >> 16, colors >> 8, colors], 1).astype(np.uint8).tobytes())
    return result

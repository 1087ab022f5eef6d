"""Files of replays: GIFs by `gif`, and MP4s by the program ffmpeg."""

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from mappo.errors import UserError
from mappo.evaluation.gif import LAST, SHORTEST, Frame, check_frame, write_gif
from mappo.system.files import replace_file, write_errors

# Pictures of an MP4 in a second; a picture of a replay is repeated.
_RATE = 25


def replay_path(run: Path, out: Path | None) -> Path:
    """Return the file of a new replay. No file is overwritten.

    Args:
        run: run directory.
        out: the file that the user wants; by default `replay.gif` in the run directory, or else `replay-2.gif`, ...

    Raises:
        UserError: the file exists, is neither GIF nor MP4, or is an MP4 and ffmpeg is missing.
    """
    if out is None:
        numbered = (run.absolute() / f"replay{f'-{number}' if number > 1 else ''}.gif" for number in itertools.count(1))
        return next(path for path in numbered if not path.exists())
    if out.suffix.lower() not in (".gif", ".mp4"):
        raise UserError(f"--out {out}: a replay is a .gif or an .mp4 file")
    if out.exists():
        raise UserError(f"--out {out} exists: choose another name, or delete it")
    if out.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise UserError(f"--out {out}: MP4 files need the program ffmpeg, which is not on the path; a .gif needs none")
    return out.absolute()  # the environment may change the current folder


def write_replay(episodes: Iterable[Sequence[Frame]], out: Path, name: str, fps: float, seconds: float) -> Path:
    """Write a replay, as MP4 if the file is named so, else as GIF; return the file.

    Args:
        episodes: pictures (H, W, 3) of equal shape, of each episode.
        out: file to write.
        name: name of the environment.
        fps: frames per second.
        seconds: longest time of an episode, played faster if necessary.

    Raises:
        UserError: the pictures are unusable, or the file cannot be written.
    """
    write = _write_mp4 if out.suffix.lower() == ".mp4" else write_gif
    try:
        with write_errors(out):
            write(episodes, out, fps, seconds)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the pictures of {name} make no replay: {error}") from None
    return out


def _write_mp4(episodes: Iterable[Sequence[Frame]], out: Path, fps: float, seconds: float) -> None:
    """Write frames as an MP4 with the times of the GIF; the last frame of an episode stays long."""
    frames = _timed_frames(episodes, fps, seconds)
    first = next(frames, None)
    if first is None:
        raise ValueError("a video needs at least one frame")
    replace_file(out, _encoder(itertools.chain([first], frames), first.shape))


def _timed_frames(episodes: Iterable[Sequence[Frame]], fps: float, seconds: float) -> Iterator[Frame]:
    """Yield the frames of a video of `_RATE` pictures per second."""
    shape = None
    for frames in episodes:
        ticks = max(SHORTEST, min(round(100 / fps), int(100 * seconds / len(frames))))
        for index, frame in enumerate(frames):
            shape = frame.shape if shape is None else shape
            check_frame(frame, shape)
            time = ticks + LAST * (index == len(frames) - 1)
            yield from itertools.repeat(frame, max(1, round(time * _RATE / 100)))


def _encoder(frames: Iterable[Frame], shape: tuple[int, ...]) -> Callable[[Path], None]:
    """Return a function that writes the video into a file."""
    height, width = shape[:2]
    command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(_RATE), "-i", "-", "-an", "-pix_fmt", "yuv420p"]
    command += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]  # players need even sides

    def save(file: Path) -> None:
        program = subprocess.Popen(
            [*command, "-f", "mp4", str(file)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            error = _feed(program, frames)
        finally:
            program.kill()
            program.wait()
        if error is not None:
            raise UserError(f"ffmpeg could not write the video: {error}")

    return save


def _feed(program: subprocess.Popen[bytes], frames: Iterable[Frame]) -> str | None:
    """Send the frames to ffmpeg; return the last line of its error, None without an error."""
    pipe: IO[bytes] | None = program.stdin
    assert pipe is not None
    try:
        for frame in frames:
            pipe.write(np.ascontiguousarray(frame).tobytes())
    except BrokenPipeError:  # ffmpeg has ended with an error
        pass
    _, errors = program.communicate()
    lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
    return lines[-1] if program.returncode else None

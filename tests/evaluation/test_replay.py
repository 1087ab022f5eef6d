"""A replay is short, and small in memory, whatever the length of the episodes."""

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from film import Film
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.evaluation.caption import add_caption
from mappo.evaluation.gif import write_gif
from mappo.evaluation.replay import MAX_FRAMES, MAX_SIZE, episode_seconds, frames_per_second, replay
from mappo.evaluation.replay_file import replay_path, write_replay


def idle(obs: Any, memory: Any = None, **_: Any) -> Any:
    return torch.zeros(1, 1, 1, dtype=torch.int64), memory


def lengths_and_seconds(path: Path) -> tuple[int, list[float]]:
    with Image.open(path) as image:
        times = [frame.info["duration"] / 1000 for frame in ImageSequence.Iterator(image)]
    return len(times), times


@pytest.mark.parametrize(
    ("horizon", "episodes", "fps"),
    [(1, 4, None), (25, 4, None), (25, 4, 1), (25, 4, 50), (700, 4, None), (1000, 1, 30), (499, 2, 1)],
)
def test_a_replay_is_shorter_than_half_a_minute(horizon: int, episodes: int, fps: int | None, tmp_path: Path):
    env = SerialEnvs(lambda: Film(horizon), 1)
    env.envs[0].metadata = {} if fps is None else {"render_fps": fps}
    shown = [*replay(env, idle, range(episodes))]
    assert len(shown) == episodes
    for frames in shown:
        steps = [int(frame[:, :, 0].argmax()) for frame in frames]
        assert len(steps) <= MAX_FRAMES
        assert (steps[0], steps[-1]) == (0, horizon - 1), "from the first picture to the last"
        gaps = np.diff(steps)
        assert len(set(gaps[:-1])) <= 1, "evenly spaced"
    write_gif(shown, tmp_path / "x.gif", frames_per_second(env), episode_seconds(episodes))
    _, times = lengths_and_seconds(tmp_path / "x.gif")
    assert sum(times) < 30
    assert max(times) <= 1
    if horizon == 25:
        assert len(shown[0]) == 25
        assert times[1] == pytest.approx(max(0.02, min(1 / (fps or 8), 6.25 / 25)), abs=0.01)


def test_pictures_are_rendered_only_where_they_are_shown():
    env = SerialEnvs(lambda: Film(1000), 1)
    [frames] = [*replay(env, idle, [1, 2, 3, 4], budget_s=0.0)]
    assert len(env.envs[0].rendered) == 1 + len(frames) <= 160


def test_a_longer_episode_than_the_first_is_thinned_too():
    class Longer(Film):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            self.horizon *= 4
            return super().reset()

    env = SerialEnvs(lambda: Longer(5), 1)
    [frames] = replay(env, idle, [1])
    assert 150 <= len(frames) <= MAX_FRAMES


def test_a_time_without_motion_is_cut_to_a_second(tmp_path: Path):
    still = np.zeros((8, 8, 3), np.uint8)
    write_gif([[still] * 200 + [still + 200] * 3], tmp_path / "x.gif", 10)
    assert lengths_and_seconds(tmp_path / "x.gif")[1] == [1.0, 0.8]


def test_each_episode_keeps_its_colours(tmp_path: Path):
    """256 colours are few: those of the second episode are not those of the first."""
    rng = np.random.default_rng(0)
    shown = [[np.repeat(rng.integers(0, 256, (1, 60, 3)), 8, 0).astype(np.uint8) for _ in range(3)] for _ in range(3)]
    write_gif(shown, tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as image:
        pictures = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    assert len(pictures) == 9
    for frame, picture in zip([frame for frames in shown for frame in frames], pictures, strict=True):
        assert np.abs(frame.astype(int) - picture).max() <= 8


def test_only_one_episode_is_in_memory(tmp_path: Path):
    def episodes() -> Iterator[list[NDArray[np.uint8]]]:
        for _ in range(10):
            yield [255 * np.eye(100, k=k, dtype=np.uint8)[:, :, None].repeat(3, 2) for k in range(20)]  # 0.6 MB

    tracemalloc.start()
    write_gif(episodes(), tmp_path / "x.gif")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4e6
    assert lengths_and_seconds(tmp_path / "x.gif")[0] == 200


@pytest.mark.parametrize("size", [(100, 2000), (1300, 40), (MAX_SIZE, MAX_SIZE)])
def test_large_pictures_are_made_smaller(size: tuple[int, int]):
    [frames] = replay(SerialEnvs(lambda: Film(2, size), 1), idle, [1])
    assert max(frames[0].shape) <= MAX_SIZE
    assert frames[0].shape[0] / frames[0].shape[1] == pytest.approx(size[0] / size[1], rel=0.1)


@pytest.mark.parametrize("fps", ["fast", 0, -3, float("nan"), float("inf"), None, []])
def test_a_number_of_frames_that_is_none_is_replaced(fps: Any):
    env = SerialEnvs(lambda: Film(2), 1)
    env.envs[0].metadata = {"render_fps": fps}
    assert frames_per_second(env) == 8
    env.envs[0].metadata = None
    assert frames_per_second(env) == 8


def test_the_frames_of_an_environment_inside_are_found():
    env = SerialEnvs(
        lambda: Film(2),
        1,
    )
    inner = Film(2)
    inner.metadata = {"render_fps": 5}
    env.envs[0].env = inner
    env.envs[0].metadata = {"name": "outer"}
    assert frames_per_second(env) == 5


def dressed(env: SerialEnvs, episodes: int = 1) -> list[list[NDArray[np.uint8]]]:
    return [*replay(env, paying, range(episodes), title="film/Film")]


def paying(obs: Any, memory: Any = None, **_: Any) -> Any:
    return 2 * torch.ones(1, 1, 1, dtype=torch.int64), memory


SIZES = [((120, 120), (400, 360)), ((40, 10), (360, 320)), ((400, 500), (440, 500))]


@pytest.mark.parametrize(("size", "shape"), SIZES)
def test_small_pictures_are_enlarged_and_get_a_caption(size: tuple[int, int], shape: tuple[int, int]):
    env = SerialEnvs(lambda: Film(3, size), 1)
    [frames] = dressed(env)
    assert {frame.shape for frame in frames} == {(*shape, 3)}
    for frame in frames:
        assert frame[-40:].min() < 100, "ink"
        assert frame[-40:, :3].min() == 255, "within the picture"
    assert not np.array_equal(frames[0][-20:], frames[1][-20:]), "step and return"


def test_captions_tell_step_and_return_to_the_end(monkeypatch: pytest.MonkeyPatch):
    texts: list[str] = []
    monkeypatch.setattr("mappo.evaluation.replay.add_caption", lambda frame, *text: texts.extend(text) or frame)
    dressed(SerialEnvs(lambda: Film(3), 1), 2)
    assert texts[:2] == ["film/Film   episode 1, seed 0", "step 0   return 0.000"]
    assert texts[3::2][:2] == ["step 1   return 2.000", "step 3   return 6.000"]
    assert texts[6] == "film/Film   episode 2, seed 1"


def test_a_long_name_keeps_its_end():
    frame = add_caption(np.zeros((320, 320, 3), np.uint8), "x" * 200 + " episode 1", "step 0")
    assert frame.shape == (360, 320, 3)
    assert frame[-40:, :3].min() == 255


def test_pictures_of_another_type_are_left_to_the_writer():
    frame = np.zeros((4, 4, 3), np.float32)
    assert add_caption(frame, "a", "b") is frame


def test_no_replay_is_overwritten(tmp_path: Path):
    assert replay_path(tmp_path, None) == tmp_path / "replay.gif"
    for name in ("replay.gif", "replay-2.gif", "x.gif"):
        (tmp_path / name).touch()
    assert replay_path(tmp_path, None) == tmp_path / "replay-3.gif"
    with pytest.raises(UserError, match=r"x\.gif exists: choose another name"):
        replay_path(tmp_path, tmp_path / "x.gif")
    with pytest.raises(UserError, match=r"a replay is a \.gif or an \.mp4 file"):
        replay_path(tmp_path, tmp_path / "x.png")


def test_without_ffmpeg_an_mp4_is_refused_before_the_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="MP4 files need the program ffmpeg"):
        replay_path(tmp_path, tmp_path / "x.mp4")


FAKE = """#!/bin/sh
for last; do :; done
echo "$@" > {folder}/words
{work}
"""


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    program = folder / "ffmpeg"
    program.write_text(FAKE.format(folder=folder, work=work))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_an_mp4_gets_all_frames_with_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_ffmpeg(tmp_path, monkeypatch, 'cat > "$last"')
    frames = [np.full((5, 6, 3), k, np.uint8) for k in range(4)]
    out = write_replay([frames, frames], replay_path(tmp_path, tmp_path / "x.mp4"), "film", 12.5, 60.0)
    shown = np.frombuffer(out.read_bytes(), np.uint8).reshape(-1, 5, 6, 3)[:, 0, 0, 0].tolist()
    assert shown == 2 * [0, 0, 1, 1, 2, 2, *[3] * 14], "two of 25 a second, half a second more at the end"
    assert "-s 6x5 -r 25" in (tmp_path / "words").read_text()


def test_an_error_of_ffmpeg_is_told_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_ffmpeg(tmp_path, monkeypatch, "echo one >&2; echo no encoder >&2; exit 1")
    frames = [np.zeros((400, 400, 3), np.uint8)] * 4  # more than a pipe holds
    with pytest.raises(UserError, match="ffmpeg could not write the video: no encoder"):
        write_replay([frames], tmp_path / "x.mp4", "film", 8.0, 60.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ffmpeg", "words"]
    with pytest.raises(UserError, match="make no replay: a video needs"):
        write_replay([], tmp_path / "x.mp4", "film", 8.0, 60.0)

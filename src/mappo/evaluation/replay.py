"""Pictures of whole episodes, few enough for a short animation."""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from mappo.backend.process_settings import EnvSettings
from mappo.core.protocols import Renderable, TeamPolicy
from mappo.errors import UserError
from mappo.evaluation.caption import add_caption
from mappo.evaluation.episodes import LONG_EPISODE, Budget, CutOffError, StepCallback, part_of, play_episodes
from mappo.evaluation.gif import Film, Frame, check_frame
from mappo.evaluation.number_format import format_return

# Seconds of a replay, with a second for the last picture of each episode; and the fewest for an episode.
SECONDS = 29.0
LEAST_SECONDS = 3.0
# Pictures of an episode at most, and their width and height in pixels.
MAX_FRAMES = 300
MAX_SIZE = 640
# Seconds of a picture at least: viewers show shorter ones late.
FRAME_SECONDS = 0.04
DEFAULT_FPS = 8.0


def episode_seconds(episodes: int) -> float:
    """Return the seconds of each of several episodes in a replay, without the last picture."""
    return max(LEAST_SECONDS, SECONDS / episodes - 1.0)


def frames_per_second(env: object) -> float:
    """Return the frames per second named by an environment, `metadata["render_fps"]` in packages; by default 8."""
    fps = getattr(env, "render_fps", None)
    return float(fps) if isinstance(fps, int | float) and 0 < fps < math.inf else DEFAULT_FPS


def replay(
    env: Any,
    policy: TeamPolicy,
    seeds: Sequence[int],
    on_step: StepCallback | None = None,
    budget_s: float = math.inf,
    title: str | None = None,
) -> Iterator[Film]:
    """Yield the pictures `(H, W, 3)` of the first environment in an episode from each seed, episode by episode.

    Their texts are episode, step and return. An episode is played twice. The first time gives its length: rendering is
    slow, and long episodes are thinned.

    Args:
        env, policy: environment to step, and the policy of all agents.
        seeds: reset seeds of the episodes.
        on_step: see `StepCallback`.
        budget_s: seconds; after them no further episode begins.
        title: name in captions with episode, step and return; None for pictures without captions from here.

    Raises:
        UserError: the environment cannot render.
    """
    if not isinstance(env, Renderable):
        raise UserError("this environment cannot draw a replay: it has no render(index)")
    with EnvSettings():
        env.reset([seeds[0]] * env.num_envs)
        env.render(0)  # an environment without pictures fails here, and not after an episode
    limit = min(MAX_FRAMES, int(episode_seconds(len(seeds)) / FRAME_SECONDS))
    began = time.monotonic()
    for index, seed in enumerate(seeds):
        if index and time.monotonic() - began >= budget_s:
            break
        shots = _render_episode(env, policy, seed, limit, part_of(on_step, index, len(seeds)))
        for shot in shots:  # a caption would hide which picture differs
            check_frame(shot.frame, shots[0].frame.shape)
        episode = f"episode {index + 1}, seed {seed}"
        heading = f"{title}   {episode}"
        frames = [shot.frame if title is None else add_caption(shot.frame, heading, shot.text) for shot in shots]
        yield Film(frames, [f"{episode}   {shot.text}" for shot in shots])


@dataclass(frozen=True)
class _Shot:
    """A picture of an episode before step `step`, with the team's return so far."""

    frame: Frame
    step: int
    team_return: float

    @property
    def text(self) -> str:
        """Return the second line of the caption."""
        return f"step {self.step:,}   return {format_return(self.team_return)}"


def _render_episode(env: Renderable, policy: TeamPolicy, seed: int, limit: int, on_step: StepCallback) -> list[_Shot]:
    """Return at most `limit` pictures of an episode, evenly spaced, and the last, with the return of the episode."""
    try:
        budget = Budget(max_length=LONG_EPISODE)
        length = int(play_episodes(env, policy, [seed], lambda _: on_step(0.0), budget).lengths[0])
    except CutOffError:
        length = LONG_EPISODE
        warnings.warn(f"the episode of seed {seed} did not end: it is shown up to step {length:,}", stacklevel=4)
    interval = -(-length // (limit - 1))
    shots: list[_Shot] = []
    settings = EnvSettings()
    with settings:
        step = env.reset([seed] * env.num_envs)
    returns = torch.zeros(step.reward.shape, dtype=torch.float64, device=env.device)  # (E, A)
    memory = None
    t = 0
    for t in range(LONG_EPISODE):
        on_step(min(t / length, 1.0))
        if t % interval == 0 or t == length - 1:
            with settings:
                picture = env.render(0)
            shots.append(_Shot(_shrink(picture), t, float(env.spec.team_reward(returns)[0])))
        if len(shots) > limit:  # sampled actions may make another episode, longer than the first
            shots = shots[::2]
            interval *= 2
        action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active)
        with settings:
            step = env.step(action)
        returns += step.reward
        if step.ended[0]:
            break
    # The environment has reset itself: the last picture stands for the end, with the whole return.
    return [*shots[:-1], _Shot(shots[-1].frame, t + 1, float(env.spec.team_reward(returns)[0]))]


def _shrink(frame: Frame) -> Frame:
    """Divide width and height by a whole number, until both are at most `MAX_SIZE`."""
    factor = -(-max(frame.shape[:2], default=0) // MAX_SIZE)
    # Pictures of other types are left to the writer, and its error.
    return np.asarray(Image.fromarray(frame).reduce(factor)) if factor > 1 and frame.dtype == np.uint8 else frame

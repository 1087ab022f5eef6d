"""mpe2's `simple_reference_v3`, batched in torch: two agents, and each one knows where the other has to go.

The same numbers as mpe2 1.1.1, step for step (law 9). Agent i sees the colour of the landmark that the other one is
to reach; with every step it moves and says one of ten words, which the other hears with its next observation. Both
see where the landmarks are, always in the same order, but neither sees the other. Positions move by the old velocity,
then the velocity is damped and takes the force; nothing collides. Minus the distance of the *other* one from its
landmark, after the move, is what an agent gets of its own; `local_ratio` mixes it with the mean of both. All
environments are in step, as in `spread`.

mpe2's `state()` is the observations side by side, which is what a critic's `joint` input is: this environment gives
no state of its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.envs.lockstep import time_step
from mappo.envs.spread import DAMPING, DT, MOVES, SENSITIVITY
from mappo.errors import UserError
from mappo.spec import ActionHeads, Spec
from mappo.types import TimeStep

LANDMARKS, WORDS = 3, 10


class Reference:
    """`num_envs` games at once, on CPU or GPU; an `Environment`.

    Both agents observe 21 numbers: the own velocity (2), the ways to the landmarks (6), the colour of the other's
    goal (3) and the word last heard, one-hot of 10, zeros at first. An action is one choice of 50, as in mpe2:
    5 times the word and the move (stay, left, right, down, up).

    Args:
        num_envs: E.
        horizon: steps of an episode, which then is truncated, never terminated.
        local_ratio: share of the other's distance in an agent's reward; the rest is the mean distance.
        dtype: float64 follows mpe2 to rounding; float32 is for training.
    """

    def __init__(
        self,
        num_envs: int,
        horizon: int = 25,
        local_ratio: float = 0.5,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if num_envs < 1 or horizon < 1:
            raise UserError(f"reference needs at least one environment and step: {num_envs}, {horizon}")
        if not 0 <= local_ratio <= 1:
            raise UserError(f"reference's local_ratio is a share, from 0 to 1: got {local_ratio}")
        self.num_envs, self.horizon, self.local_ratio = num_envs, horizon, local_ratio
        self.device, self.dtype = torch.device(device), dtype
        self.spec = Spec(
            agents=("agent_0", "agent_1"),
            obs_spaces=(spaces.Box(-np.inf, np.inf, (8 + LANDMARKS + WORDS,), np.float32),) * 2,
            action_heads=(ActionHeads((WORDS * len(MOVES),)),) * 2,
        )
        self._moves = torch.tensor(MOVES, device=self.device, dtype=dtype) * SENSITIVITY
        self._words = torch.eye(WORDS, device=self.device, dtype=dtype)
        self._colors = torch.tensor(np.where(np.eye(LANDMARKS), 0.75, 0.25), device=self.device, dtype=dtype)
        self._games = torch.arange(num_envs, device=self.device).unsqueeze(-1)
        self._all = torch.ones(num_envs, 2, dtype=torch.bool, device=self.device)
        self._generator = torch.Generator(self.device)
        self._place = self._zeros(2 + LANDMARKS, 2)  # agents, landmarks
        self._goal = torch.zeros(num_envs, 2, dtype=torch.long, device=self.device)  # seen by i, where 1 - i has to go
        self._clock = 0
        self._trail: list[np.ndarray] = []
        self._rest()

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Goals and places at random; a seed gives the same ones as mpe2's `reset(seed=...)`."""
        if seed is None:
            self._scatter()
        else:
            seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
            if len(seeds) != self.num_envs:
                raise ValueError(f"reference: {len(seeds)} seeds for {self.num_envs} environments")
            generators = [np.random.default_rng(s) for s in seeds]
            goals = np.stack([generator.integers(LANDMARKS, size=2) for generator in generators])
            places = np.stack([generator.uniform(-1, 1, (2 + LANDMARKS, 2)) for generator in generators])
            self._goal = torch.as_tensor(goals).to(self.device)
            self._place = torch.as_tensor(places).to(self.device, self.dtype)
            self._generator.manual_seed(seeds[0])
        self._rest()
        return self._present()

    def step(self, action: Tensor) -> TimeStep:
        """One step of each game; actions `(E, 2, 1)` in [0, 50)."""
        if action.shape != (self.num_envs, 2, 1):
            raise ValueError(f"reference: actions must be {(self.num_envs, 2, 1)}, got {tuple(action.shape)}")
        said, move = action.squeeze(-1) // len(MOVES), action.squeeze(-1) % len(MOVES)
        moved = self._place[:, :2] + self._velocity * DT
        self._place = torch.cat([moved, self._place[:, 2:]], 1)
        self._velocity = self._velocity * (1 - DAMPING) + self._moves[move] * DT
        self._heard = self._words[said.flip(1)]
        self._clock += 1
        next_obs = obs = self._look()
        own = -torch.sqrt((moved.flip(1) - self._place[self._games, 2 + self._goal]).square().sum(-1))
        reward = own.mean(-1, keepdim=True) * (1 - self.local_ratio) + own * self.local_ratio
        ended = self._clock >= self.horizon
        if ended:
            self._scatter()
            self._rest()
            obs = self._look()
        return self._time_step(obs, next_obs, reward, ended)

    def close(self) -> None:
        pass

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "place": self._place,
            "velocity": self._velocity,
            "goal": self._goal,
            "heard": self._heard,
            "clock": torch.tensor(self._clock),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Sets what `state_dict` gave; the next `step` goes on from there.

        Returns:
            Where the games are, as after a reset.
        """
        self._place = state["place"].to(self.device, self.dtype)
        self._velocity = state["velocity"].to(self.device, self.dtype)
        self._goal = state["goal"].to(self.device)
        self._heard = state["heard"].to(self.device, self.dtype)
        self._clock = int(state["clock"])
        self._generator.set_state(state["generator"].cpu())
        return self._present()

    def render(self, index: int) -> np.ndarray:
        """Game `index` with the trails of the pictures before, uint8 `(H, W, 3)`."""
        agents, landmarks = np.split(self._place[index].cpu().numpy().astype(np.float64), [2])
        heard = self._heard[index].flip(0)  # what each one said
        if self._clock == 0:
            self._trail = []
        picture = draw_reference(
            agents,
            landmarks,
            goals=[int(goal) for goal in self._goal[index].flip(0)],
            words=[int(word.argmax()) if word.any() else None for word in heard],
            trails=self._trail,
            title=f"step {self._clock} of {self.horizon}",
        )
        self._trail.append(agents)
        return picture

    def _present(self) -> TimeStep:
        obs = self._look()
        return self._time_step(obs, obs, torch.zeros_like(self._all, dtype=self.dtype), ended=False)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(self.num_envs, *shape, device=self.device, dtype=self.dtype)

    def _scatter(self) -> None:
        self._goal = torch.randint(LANDMARKS, (self.num_envs, 2), generator=self._generator, device=self.device)
        drawn = torch.rand(self._place.shape, generator=self._generator, device=self.device, dtype=self.dtype)
        self._place = drawn * 2 - 1

    def _rest(self) -> None:
        """An episode begins: both stand still, and have heard nothing."""
        self._velocity, self._heard = self._zeros(2, 2), self._zeros(2, WORDS)
        self._clock = 0

    def _look(self) -> Tensor:
        """What each agent sees: float32 `(E, 2, 21)`."""
        ways = (self._place[:, 2:].unsqueeze(1) - self._place[:, :2].unsqueeze(2)).flatten(2)
        return torch.cat([self._velocity, ways, self._colors[self._goal], self._heard], -1).float()

    def _time_step(self, obs: Tensor, next_obs: Tensor, reward: Tensor, ended: bool) -> TimeStep:
        return time_step(self._all, obs, next_obs, reward, first=self._clock == 0, ended=ended)


def informed_pair(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """A baseline that agreed on a language: word i stands for landmark i. Each one uses its own observation only.

    Landmarks are always seen in the same order, with the same colours, so that a number names one. Who has heard
    nothing yet, which is in the first step, goes to the middle of them. Each moves along the larger entry of
    `target - position - 0.2 * velocity`, or stays if that is under 0.03. Whoever looks four moves ahead, through all
    625 of them, is 1 % nearer.

    Args:
        obs: `(E, 2, 21)`. memory: handed back.

    Returns:
        Actions `(E, 2, 1)`, and the memory.
    """
    velocity, ways = obs[..., :2], obs[..., 2:8].reshape(-1, 2, LANDMARKS, 2)
    word, heard = obs[..., 8 : 8 + LANDMARKS].argmax(-1), obs[..., 11 : 11 + LANDMARKS]
    weight = torch.where(obs[..., 11:].any(-1, keepdim=True), heard, 1 / LANDMARKS)
    error = (weight.unsqueeze(-1) * ways).sum(-2) - 0.2 * velocity
    size, axis = error.abs().max(-1)
    positive = error.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0
    move = torch.where(size < 0.03, 0, 1 + 2 * axis + positive.long())  # 1 left, 2 right, 3 down, 4 up
    return (len(MOVES) * word + move).unsqueeze(-1), memory


def draw_reference(
    agents: np.ndarray,
    landmarks: np.ndarray,
    *,
    goals: Sequence[int],
    words: Sequence[int | None],
    trails: Sequence[np.ndarray] = (),
    title: str = "",
    size: int = 480,
) -> np.ndarray:
    """Draw two agents (2, 2) and three landmarks (3, 2) as an image (H, W, 3), H above W = `size`.

    A ring of an agent's colour marks the landmark that it has to reach, `goals[agent]`; a bubble at an agent holds
    what it last said, as a letter from A to J. `trails` holds earlier places of the agents (2, 2), oldest first.
    """
    from PIL import Image, ImageDraw

    from mappo.envs import draw

    strip, scale = round(size * 0.07), 3
    image = Image.new("RGB", (size * scale, (size + 2 * strip) * scale))
    canvas = draw.Canvas(ImageDraw.Draw(image, "RGBA"), size * scale, strip * scale)
    canvas.field()
    colors = draw.AGENT_COLORS[1:3]  # unlike the landmarks'
    for agent, color in enumerate(colors):
        canvas.trail([places[agent] for places in [*trails, agents]], color)
    for place, color in zip(agents, colors, strict=True):
        canvas.agent(place, 0.075, color, False)
    for radius, goal, color in zip((0.06, 0.08), goals, colors, strict=True):
        canvas.flag(landmarks[goal], radius, color, True)
    for landmark, color in zip(landmarks, draw.LANDMARK_COLORS.values(), strict=True):
        canvas.flag(landmark, 0.045, color, False)
    for place, word in zip(agents, words, strict=True):
        canvas.bubble(place, 0.075, "..." if word is None else chr(ord("A") + word))
    far = [float(np.linalg.norm(place - landmarks[goal])) for place, goal in zip(agents, goals, strict=True)]
    names = list(draw.LANDMARK_COLORS)
    caption = ", ".join(
        f"{names[goal]} is {apart:.2f} from agent {i}" for i, (goal, apart) in enumerate(zip(goals, far, strict=True))
    )
    canvas.strips(title, caption)
    return np.array(image.reduce(scale))

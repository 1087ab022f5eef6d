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

from mappo.core.spec import ActionHeads, Spec
from mappo.envs.batched.particles import DAMPING, DT, MOVES, Particles
from mappo.errors import UserError

LANDMARKS, WORDS = 3, 10


class Reference(Particles):
    """`num_envs` games at once, on CPU or GPU; an `Environment`.

    Both agents observe 21 numbers: the own velocity (2), the ways to the landmarks (6), the colour of the other's
    goal (3) and the word last heard, one-hot of 10, zeros at first. An action is one choice of 50, as in mpe2:
    5 times the word and the move (stay, left, right, down, up).

    Args:
        num_envs: E.
        horizon, dtype: see `Particles`.
        local_ratio: share of the other's distance in an agent's reward; the rest is the mean distance.
    """

    name = "reference"
    names = ("place", "velocity", "goal", "heard")

    def __init__(
        self,
        num_envs: int,
        horizon: int = 25,
        local_ratio: float = 0.5,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 0 <= local_ratio <= 1:
            raise UserError(f"reference's local_ratio is a share, from 0 to 1: got {local_ratio}")
        spec = Spec(
            agents=("agent_0", "agent_1"),
            obs_spaces=(spaces.Box(-np.inf, np.inf, (8 + LANDMARKS + WORDS,), np.float32),) * 2,
            action_heads=(ActionHeads((WORDS * len(MOVES),)),) * 2,
        )
        super().__init__(num_envs, horizon, spec, device, dtype)
        self.local_ratio = local_ratio
        self._words = torch.eye(WORDS, device=self.device, dtype=dtype)
        self._colors = torch.tensor(np.where(np.eye(LANDMARKS), 0.75, 0.25), device=self.device, dtype=dtype)
        self._games = torch.arange(num_envs, device=self.device).unsqueeze(-1)
        self._place = self._zeros(2 + LANDMARKS, 2)  # agents, landmarks
        self._goal = torch.zeros(num_envs, 2, dtype=torch.long, device=self.device)  # seen by i, where 1 - i has to go
        self._trail: list[np.ndarray] = []
        self._reset_state()

    def render(self, index: int) -> np.ndarray:
        """Game `index` with the trails of the pictures before, uint8 `(H, W, 3)`."""
        agents, landmarks = np.split(self._place[index].cpu().numpy().astype(np.float64), [2])
        heard = self._heard[index].flip(0)  # what each one said
        if self._clock == 0:
            self._trail = []
        picture = render_reference(
            agents,
            landmarks,
            goals=[int(goal) for goal in self._goal[index].flip(0)],
            words=[int(word.argmax()) if word.any() else None for word in heard],
            trails=self._trail,
            title=f"step {self._clock} of {self.horizon}",
        )
        self._trail.append(agents)
        return picture

    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> None:
        goals = np.stack([generator.integers(LANDMARKS, size=2) for generator in generators])
        self._place = self._placed([generator.uniform(-1, 1, (2 + LANDMARKS, 2)) for generator in generators])
        self._goal = torch.as_tensor(goals).to(self.device)

    def _sample_state(self) -> None:
        self._goal = self._randint(LANDMARKS, 2)
        self._place = self._uniform(2 + LANDMARKS, 2)

    def _reset_state(self) -> None:
        """Both stand still, and have heard nothing."""
        self._velocity, self._heard = self._zeros(2, 2), self._zeros(2, WORDS)

    def _advance(self, action: Tensor) -> None:
        """In [0, 50): a word and a move."""
        said, move = action // len(MOVES), action % len(MOVES)
        moved = self._place[:, :2] + self._velocity * DT
        self._place = torch.cat([moved, self._place[:, 2:]], 1)
        self._velocity = self._velocity * (1 - DAMPING) + self._moves[move] * DT
        self._heard = self._words[said.flip(1)]

    def _reward(self) -> Tensor:
        others = self._place[:, :2].flip(1)
        own = -torch.sqrt((others - self._place[self._games, 2 + self._goal]).square().sum(-1))
        return own.mean(-1, keepdim=True) * (1 - self.local_ratio) + own * self.local_ratio

    def _observe(self) -> Tensor:
        """What each agent sees: float32 `(E, 2, 21)`."""
        ways = (self._place[:, 2:].unsqueeze(1) - self._place[:, :2].unsqueeze(2)).flatten(2)
        return torch.cat([self._velocity, ways, self._colors[self._goal], self._heard], -1).float()


def baselines(_num_agents: int) -> dict[str, Any]:
    """What a team is measured by."""
    return {"scripted pair": informed_pair}


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


def render_reference(
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

    from mappo.envs.batched import rendering as draw

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
    canvas.captions(title, caption)
    return np.array(image.reduce(scale))

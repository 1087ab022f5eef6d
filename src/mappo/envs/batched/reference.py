"""mpe2's `simple_reference_v3`, batched in torch: two agents, and each agent knows the goal of the other.

The environment computes the same numbers as mpe2 1.1.1, step for step (law 9). Agent i observes the colour of the
other agent's landmark. With every step an agent moves and says one of ten words; the other agent hears the word with
its next observation. Both observe the ways to the landmarks, always in the same order; neither observes the other.
Agents move by the old velocity; then the velocity is damped and takes the force. Nothing collides. The local reward of
an agent is minus the distance of the *other* agent from its landmark, after the move; `local_ratio` mixes it with the
mean of both. All environments are at the same step, as in `spread`.

mpe2's `state()` concatenates the observations, as the critic's input `joint` does: this environment has no own state.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import Spec
from mappo.envs.batched.particles import MOVES, Particles, action_heads
from mappo.envs.batched.steering import push, walk, way_to_named_landmark
from mappo.envs.batched.tensor_game import one_hot
from mappo.errors import UserError

LANDMARKS = 3
WORDS = 10


class Reference(Particles):
    """Batch of E reference games on CPU or GPU, an `Environment`.

    Both agents observe 21 numbers:

    - their own velocity (2);
    - the ways to the landmarks (6);
    - the colour of the other agent's goal (3);
    - the last word of the other agent (10), one-hot. It is zeros at first.

    An action is one choice of 50, as in mpe2: 5 times the word plus the move. Moves are stay, left, right, down and up.
    A continuous action is 15 numbers: five for the move, then ten for the word. The other agent hears the ten as they
    are.

    Args:
        num_envs: E.
        horizon: steps of an episode, which is then truncated, never terminated.
        local_ratio: weight of the other agent's distance in a reward, from 0 to 1; the mean distance has the rest.
        device: device of all tensors.
        dtype: float64 follows mpe2 to rounding; float32 is for training.
        continuous_actions: as mpe2's, see `Particles`.

    Raises:
        UserError: `local_ratio` is outside [0, 1], or a size is less than 1.
    """

    name = "reference"
    names = ("place", "velocity", "goal", "heard")
    _color: Tensor
    _heard: Tensor  # one-hot, or the numbers said

    def __init__(
        self,
        num_envs: int,
        horizon: int = 25,
        local_ratio: float = 0.5,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        continuous_actions: bool = False,
    ) -> None:
        if not 0 <= local_ratio <= 1:
            raise UserError(f"reference's local_ratio must be from 0 to 1, got {local_ratio}")
        num_choices = WORDS * len(MOVES)
        num_numbers = WORDS + len(MOVES)
        spec = Spec(
            agents=("agent_0", "agent_1"),
            obs_spaces=(spaces.Box(-np.inf, np.inf, (8 + LANDMARKS + WORDS,), np.float32),) * 2,
            action_heads=(action_heads(num_numbers if continuous_actions else num_choices, continuous_actions),) * 2,
        )
        layout = {"velocity": (2, 2), "place": (2 + LANDMARKS, 2), "color": (2, LANDMARKS), "heard": (2, WORDS)}
        super().__init__(num_envs, horizon, spec, device, dtype, layout)
        self.local_ratio = local_ratio
        self._words = torch.eye(WORDS, device=self.device, dtype=dtype)
        self._colors = torch.tensor(np.where(np.eye(LANDMARKS), 0.75, 0.25), device=self.device, dtype=dtype)
        self._env_index = torch.arange(num_envs, device=self.device)
        self._agents = self._place[:2]  # landmarks follow
        self._goal = torch.zeros(2, num_envs, dtype=torch.long, device=self.device)  # [i, e]: landmark of agent 1 - i
        self._target = torch.zeros_like(self._agents)  # [i, :, e]: where agent i should go
        landmarks = self._row["place"][2:]
        rows = zip(*(self._row[name] for name in ("velocity", "place", "color", "heard")), strict=False)
        self._set_obs([[(v, None), (landmarks, place), (color, None), (word, None)] for v, place, color, word in rows])
        self._begin()

    def render(self, index: int) -> np.ndarray:
        """Render environment `index` with the trails since the last pictures, uint8 `(H, W, 3)`.

        A ring in an agent's colour marks its goal. A bubble at an agent holds its last word, a letter from A to J;
        of numbers the largest.
        """
        from mappo.envs.batched.rendering import AGENT_COLORS, LANDMARK_COLORS, Canvas

        agents, landmarks = np.split(self._positions(index), [2])
        goals = [int(goal) for goal in self._goal[:, index].flip(0)]
        words = self._heard[..., index].flip(0)  # each agent heard the word of the other
        canvas = Canvas()
        names = list(LANDMARK_COLORS)
        colors = AGENT_COLORS[1:3]  # unlike the colours of the landmarks
        canvas.trails([*self._extend_trail(agents), agents], colors)
        for place, color in zip(agents, colors, strict=True):
            canvas.agent(place, 0.075, color, False)
        for radius, goal, color in zip((0.06, 0.08), goals, colors, strict=True):  # both stay visible on a common goal
            canvas.flag(landmarks[goal], radius, color, True)
        for landmark, name in zip(landmarks, names, strict=True):
            canvas.flag(landmark, 0.045, LANDMARK_COLORS[name], False)
        for place, word in zip(agents, words, strict=True):
            canvas.bubble(place, 0.075, chr(ord("A") + int(word.argmax())) if word.any() else "...")
        distances = np.linalg.norm(agents - landmarks[goals], axis=-1)  # (2,)
        caption = ", ".join(f"{names[goal]} is {distances[i]:.2f} from agent {i}" for i, goal in enumerate(goals))
        return canvas.finish(f"step {self.phase} of {self.horizon}", caption)

    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> dict[str, Tensor]:
        goals = np.stack([generator.integers(LANDMARKS, size=2) for generator in generators])
        places = [generator.uniform(-1, 1, (2 + LANDMARKS, 2)) for generator in generators]
        return {"goal": torch.as_tensor(goals), "place": self._to_tensor(places)}

    def _sample_state(self) -> dict[str, Tensor]:
        return {"goal": self._randint(LANDMARKS, 2), "place": self._uniform(2 + LANDMARKS, 2)}

    def _begin(self) -> None:
        self._color.copy_(self._colors[self._goal].movedim(-1, 1))
        self._target.copy_(self._place[2 + self._goal.flip(0), :, self._env_index].movedim(-1, 1))

    def _advance(self, action: Tensor) -> None:
        """Apply a word and a move each: choices in [0, 50), or 15 numbers."""
        self._drift()
        self._push(action if self._is_continuous else action % len(MOVES))
        words = action.flip(0)
        if self._is_continuous:
            self._heard.copy_(words[:, len(MOVES) :])
        else:
            self._heard.copy_(self._words[words // len(MOVES)].movedim(-1, 1))

    def _reward(self) -> Tensor:
        apart = torch.hypot(*(self._agents - self._target).unbind(1))  # (2, E)
        return apart.mean(0).lerp(apart.flip(0), self.local_ratio).neg_()


def baselines(spec: Spec) -> dict[str, Any]:
    """Return the scripted policies for comparison."""
    return {"scripted pair": continuous_pair if spec.continuous else informed_pair}


def informed_pair(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as a baseline with an agreed language: word i stands for landmark i.

    Each agent uses its own observation only; `way_to_named_landmark` and `walk` describe its moves. A search four moves
    ahead, through all 625 sequences, comes 1 % nearer.

    Args:
        obs: `(E, 2, 21)`.
        memory: returned unchanged.

    Returns:
        Actions `(E, 2, 1)`, and the memory.
    """
    word, way = _language(obs)
    return (len(MOVES) * word + walk(way, obs[..., :2])).unsqueeze(-1), memory


def continuous_pair(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as `informed_pair` with continuous actions `(E, 2, 15)`: the word is a 1, and agents push (`push`)."""
    word, way = _language(obs)
    return torch.cat([push(way, obs[..., :2]), one_hot(word, WORDS)], -1), memory


def _language(obs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the word `(E, 2)` and the way `(E, 2, 2)` of each agent."""
    word = obs[..., 8 : 8 + LANDMARKS].argmax(-1)  # the landmark of the brightest colour
    ways = obs[..., 2:8].reshape(-1, 2, LANDMARKS, 2)
    return word, way_to_named_landmark(ways, obs[..., 8 + LANDMARKS :])

"""mpe2's `simple_speaker_listener_v4`, batched in torch: one agent knows the goal, the other can go there.

The environment computes the same numbers as mpe2 1.1.1, step for step (law 9). The speaker observes the colour of the
goal, stands still and says one of three words. The listener hears the word with its next observation, and observes the
ways to the landmarks, always in the same order, but not the goal. The listener moves by the old velocity; then the
velocity is damped and takes the force. Nothing collides. Both agents receive the team's reward: minus the squared
distance of the listener from the goal, after the move. All environments are at the same step, as in `spread`.

mpe2's `state()` concatenates the observations, as the critic's input `joint` does, except for the padding: this
environment has no own state.
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

WORDS = 3  # as many as landmarks


class SpeakerListener(Particles):
    """E environments on CPU or GPU, an `Environment`.

    The speaker (agent 0) observes 3 numbers and has 3 choices, the listener (agent 1) observes 11 and has 5. In the
    padded layout both observe 11 numbers, with 8 zeros at the end of the speaker's, and an action is a choice of 5.
    The speaker's last two choices mean silence.

    With continuous actions the speaker says three numbers, the listener hears them unchanged and moves by five numbers.
    In the padded layout an action is five numbers, and the speaker's last two are ignored.

    Args:
        num_envs: E.
        horizon: steps of an episode, which is then truncated, never terminated.
        device: device of all tensors.
        dtype: float64 follows mpe2 to rounding; float32 is for training.
        continuous_actions: as mpe2's, see `Particles`.
    """

    name = "speaker_listener"
    names = ("place", "velocity", "goal", "heard")
    _color: Tensor
    _heard: Tensor  # one-hot, or the numbers said

    def __init__(
        self,
        num_envs: int,
        horizon: int = 25,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        continuous_actions: bool = False,
    ) -> None:
        spec = Spec(
            agents=("speaker_0", "listener_0"),
            obs_spaces=tuple(spaces.Box(-np.inf, np.inf, (size,), np.float32) for size in (3, 11)),
            action_heads=tuple(action_heads(size, continuous_actions) for size in (WORDS, len(MOVES))),
            shared_reward=True,
        )
        layout = {"velocity": (2,), "place": (2 + WORDS, 2), "color": (WORDS,), "heard": (WORDS,)}
        super().__init__(num_envs, horizon, spec, device, dtype, layout)
        self._words = torch.eye(len(MOVES), WORDS, device=self.device, dtype=dtype)  # zeros for the two missing words
        self._colors = torch.tensor(np.where(np.eye(WORDS), 0.65, 0.15), device=self.device, dtype=dtype)
        self._env_index = torch.arange(num_envs, device=self.device)
        self._agents = self._place[1]  # the listener, between the speaker and the landmarks
        self._goal = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._target = torch.zeros_like(self._agents)
        color = self._row["color"]
        _speaker, listener, *landmarks = self._row["place"]
        ways = [(landmark, listener) for landmark in landmarks]
        padding = torch.zeros(8, dtype=torch.long)
        self._set_obs(
            [[(color, None), (padding, None)], [(self._row["velocity"], None), *ways, (self._row["heard"], None)]]
        )
        self._begin()

    def render(self, index: int) -> np.ndarray:
        """Render environment `index` with the trail since the last pictures, uint8 `(H, W, 3)`.

        A ring marks the goal. A bubble at the speaker holds its last word, A, B or C; of numbers the largest.
        """
        from mappo.envs.batched.rendering import LANDMARK_COLORS, LISTENER, SPEAKER, Canvas

        speaker, listener, *landmarks = self._positions(index)
        goal = int(self._goal[index])
        word = self._heard[:, index]
        canvas = Canvas()
        canvas.trails([[place] for place in [*self._extend_trail(listener), listener]], [LISTENER])
        canvas.agent(speaker, 0.075, SPEAKER, False)
        canvas.agent(listener, 0.075, LISTENER, False)
        for k, (landmark, color) in enumerate(zip(landmarks, LANDMARK_COLORS.values(), strict=True)):
            canvas.flag(landmark, 0.045, color, k == goal)  # smaller than agents, which stay visible below
        canvas.bubble(speaker, 0.075, "ABC"[int(word.argmax())] if word.any() else "...")
        distance = float(np.linalg.norm(listener - landmarks[goal]))
        caption = f"the goal is {list(LANDMARK_COLORS)[goal]}, {distance:.2f} away from the listener"
        return canvas.finish(f"step {self.phase} of {self.horizon}", caption)

    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> dict[str, Tensor]:
        goals = torch.tensor([int(generator.integers(WORDS)) for generator in generators])
        return {"goal": goals, "place": self._to_tensor([generator.uniform(-1, 1, (5, 2)) for generator in generators])}

    def _sample_state(self) -> dict[str, Tensor]:
        return {"goal": self._randint(WORDS), "place": self._uniform(5, 2)}

    def _begin(self) -> None:
        self._color.copy_(self._colors[self._goal].t())
        self._target.copy_(self._place[2 + self._goal, :, self._env_index].t())

    def _advance(self, action: Tensor) -> None:
        """Apply the speaker's word, a choice in [0, 3) or three numbers, and the listener's move."""
        word, move = action.unbind()
        self._drift()
        self._push(move)
        self._heard.copy_(word[:WORDS] if self._is_continuous else self._words[word].t())

    def _reward(self) -> Tensor:
        return -(self._agents - self._target).square_().sum(0).expand(2, -1)


def baselines(spec: Spec) -> dict[str, Any]:
    """Return the scripted policies for comparison."""
    return {"scripted pair": continuous_pair if spec.continuous else informed_pair}


def informed_pair(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as a baseline with an agreed language: word i stands for landmark i.

    Each agent uses its own observation only. `way_to_named_landmark` and `walk` describe the listener.

    Args:
        obs: `(E, 2, 11)`.
        memory: returned unchanged.

    Returns:
        Actions `(E, 2, 1)`, and the memory.
    """
    word, way, velocity = _language(obs)
    return torch.stack([word, walk(way, velocity)], 1).unsqueeze(-1), memory


def continuous_pair(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as `informed_pair` with continuous actions `(E, 2, 5)`: the word is a 1, the listener pushes (`push`)."""
    word, way, velocity = _language(obs)
    return torch.stack([one_hot(word, len(MOVES)), push(way, velocity)], 1), memory


def _language(obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the speaker's word `(E,)`, and the listener's way and velocity, each `(E, 2)`."""
    word = obs[:, 0, :WORDS].argmax(-1)  # the landmark of the brightest colour
    listener = obs[:, 1]
    way = way_to_named_landmark(listener[:, 2:8].reshape(-1, WORDS, 2), listener[:, 8:11])
    return word, way, listener[:, :2]

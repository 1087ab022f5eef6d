"""mpe2's `simple_speaker_listener_v4`, batched in torch: one agent knows the goal, the other one can go there.

The same numbers as mpe2 1.1.1, step for step (law 9). The speaker sees the colour of the goal, stands still and says
one of three words; the listener hears it with its next observation, and sees where the landmarks are, always in the
same order, but not which one is the goal. Positions move by the old velocity, then the velocity is damped and takes
the force; nothing collides. Both agents get the same number, minus the squared distance of the listener from the goal
after the move: it is the team's reward. All environments are in step, as in `spread`.

mpe2's `state()` is the observations side by side, which is what a critic's `joint` input is, but for the padding:
this environment gives no state of its own.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from mappo.core.spec import ActionHeads, Spec
from mappo.envs.batched.particles import DAMPING, DT, MOVES, Particles

WORDS = 3  # as many as there are landmarks


class SpeakerListener(Particles):
    """`num_envs` games at once, on CPU or GPU; an `Environment`.

    The speaker (agent 0) observes 3 numbers and has 3 choices, the listener (agent 1) 11 and 5. In the padded layout
    both observe 11, the speaker with 8 zeros behind, and an action is one choice of 5: the two that the speaker lacks
    are silence, should they come.

    Args:
        num_envs: E.
        horizon, dtype: see `Particles`.
    """

    name = "speaker_listener"
    names = ("place", "velocity", "goal", "heard")

    def __init__(
        self,
        num_envs: int,
        horizon: int = 25,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        spec = Spec(
            agents=("speaker_0", "listener_0"),
            obs_spaces=tuple(spaces.Box(-np.inf, np.inf, (size,), np.float32) for size in (3, 11)),
            action_heads=(ActionHeads((WORDS,)), ActionHeads((len(MOVES),))),
            shared_reward=True,
        )
        super().__init__(num_envs, horizon, spec, device, dtype)
        self._words = torch.eye(len(MOVES), WORDS, device=self.device, dtype=dtype)  # zeros where there is no word
        self._colors = torch.tensor(np.where(np.eye(WORDS), 0.65, 0.15), device=self.device, dtype=dtype)
        self._games = torch.arange(num_envs, device=self.device)
        self._place = self._zeros(5, 2)  # speaker, listener, landmarks
        self._goal = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._trail: list[np.ndarray] = []
        self._reset_state()

    def render(self, index: int) -> np.ndarray:
        """Game `index` with the trail of the pictures before, uint8 `(H, W, 3)`."""
        from mappo.envs.batched.rendering import render_speaker_listener

        speaker, listener, *landmarks = self._place[index].cpu().numpy().astype(np.float64)
        heard = self._heard[index]
        if self._clock == 0:
            self._trail = []
        picture = render_speaker_listener(
            speaker,
            listener,
            np.stack(landmarks),
            goal=int(self._goal[index]),
            word=int(heard.argmax()) if heard.any() else None,
            trail=self._trail,
            title=f"step {self._clock} of {self.horizon}",
        )
        self._trail.append(listener)
        return picture

    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> None:
        self._goal = torch.tensor([int(generator.integers(WORDS)) for generator in generators], device=self.device)
        self._place = self._placed([generator.uniform(-1, 1, (5, 2)) for generator in generators])

    def _sample_state(self) -> None:
        self._goal = self._randint(WORDS)
        self._place = self._uniform(5, 2)

    def _reset_state(self) -> None:
        """The listener stands still, and has heard nothing."""
        self._velocity, self._heard = self._zeros(2), self._zeros(WORDS)

    def _advance(self, action: Tensor) -> None:
        """A word in [0, 3) and a move in [0, 5)."""
        said, move = action.unbind(-1)
        moved = self._place[:, 1] + self._velocity * DT
        self._place = torch.cat([self._place[:, :1], moved.unsqueeze(1), self._place[:, 2:]], 1)
        self._velocity = self._velocity * (1 - DAMPING) + self._moves[move] * DT
        self._heard = self._words[said]

    def _reward(self) -> Tensor:
        way = self._place[:, 1] - self._place[self._games, 2 + self._goal]
        return -way.square().sum(-1, keepdim=True).repeat(1, 2)

    def _observe(self) -> Tensor:
        """What the speaker and the listener see: float32 `(E, 2, 11)`."""
        ways = (self._place[:, 2:] - self._place[:, 1:2]).flatten(1)
        listener = torch.cat([self._velocity, ways, self._heard], -1)
        speaker = functional.pad(self._colors[self._goal], (0, listener.shape[-1] - 3))
        return torch.stack([speaker, listener], 1).float()


def baselines(_num_agents: int) -> dict[str, Any]:
    """What a team is measured by."""
    return {"scripted pair": informed_pair}


def informed_pair(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """A baseline that agreed on a language: word i stands for landmark i. Each one uses its own observation only.

    Landmarks are always seen in the same order, with the same colours, so that a number names one. The listener goes
    to the middle of them as long as it has heard nothing, which is in the first step. It moves along the larger entry
    of `target - position - 0.2 * velocity`, or stays if that is under 0.03.

    Args:
        obs: `(E, 2, 11)`. memory: handed back.

    Returns:
        Actions `(E, 2, 1)`, and the memory.
    """
    word = obs[:, 0, :WORDS].argmax(-1)
    velocity, ways, heard = obs[:, 1, :2], obs[:, 1, 2:8].reshape(-1, WORDS, 2), obs[:, 1, 8:11]
    weight = torch.where(heard.any(-1, keepdim=True), heard, 1 / WORDS)
    error = (weight.unsqueeze(-1) * ways).sum(1) - 0.2 * velocity
    size, axis = error.abs().max(-1)
    positive = error.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0
    move = torch.where(size < 0.03, 0, 1 + 2 * axis + positive.long())  # 1 left, 2 right, 3 down, 4 up
    return torch.stack([word, move], 1).unsqueeze(-1), memory

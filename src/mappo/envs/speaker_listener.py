"""mpe2's `simple_speaker_listener_v4`, batched in torch: one agent knows the goal, the other one can go there.

The same numbers as mpe2 1.1.1, step for step (law 9). The speaker sees the colour of the goal, stands still and says
one of three words; the listener hears it with its next observation, and sees where the landmarks are, always in the
same order, but not which one is the goal. Positions move by the old velocity, then the velocity is damped and takes
the force; nothing collides. Both agents get the same number, minus the squared distance of the listener from the goal
after the move: it is the team's reward. All environments are in step, as in `spread`.

mpe2's `state()` is the observations side by side, which is what a critic's `joint` input is, but for the padding:
this environment gives no state of its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from mappo.envs.lockstep import time_step
from mappo.envs.spread import DAMPING, DT, MOVES, SENSITIVITY
from mappo.errors import UserError
from mappo.spec import ActionHeads, Spec
from mappo.types import TimeStep

WORDS = 3  # as many as there are landmarks


class SpeakerListener:
    """`num_envs` games at once, on CPU or GPU; an `Environment`.

    The speaker (agent 0) observes 3 numbers and has 3 choices, the listener (agent 1) 11 and 5. In the padded layout
    both observe 11, the speaker with 8 zeros behind, and an action is one choice of 5: the two that the speaker lacks
    are silence, should they come.

    Args:
        num_envs: E.
        horizon: steps of an episode, which then is truncated, never terminated.
        dtype: float64 follows mpe2 to rounding; float32 is for training.
    """

    def __init__(
        self,
        num_envs: int,
        horizon: int = 25,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if num_envs < 1 or horizon < 1:
            raise UserError(f"speaker_listener needs at least one environment and step: {num_envs}, {horizon}")
        self.num_envs, self.horizon = num_envs, horizon
        self.device, self.dtype = torch.device(device), dtype
        self.spec = Spec(
            agents=("speaker_0", "listener_0"),
            obs_spaces=tuple(spaces.Box(-np.inf, np.inf, (size,), np.float32) for size in (3, 11)),
            action_heads=(ActionHeads((WORDS,)), ActionHeads((len(MOVES),))),
            shared_reward=True,
        )
        self._moves = torch.tensor(MOVES, device=self.device, dtype=dtype) * SENSITIVITY
        self._words = torch.eye(len(MOVES), WORDS, device=self.device, dtype=dtype)  # zeros where there is no word
        self._colors = torch.tensor(np.where(np.eye(WORDS), 0.65, 0.15), device=self.device, dtype=dtype)
        self._games = torch.arange(num_envs, device=self.device)
        self._all = torch.ones(num_envs, 2, dtype=torch.bool, device=self.device)
        self._generator = torch.Generator(self.device)
        self._place = self._zeros(5, 2)  # speaker, listener, landmarks
        self._goal = torch.zeros(num_envs, dtype=torch.long, device=self.device)
        self._clock = 0
        self._trail: list[np.ndarray] = []
        self._rest()

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Goal and places at random; a seed gives the same ones as mpe2's `reset(seed=...)`."""
        if seed is None:
            self._scatter()
        else:
            seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
            if len(seeds) != self.num_envs:
                raise ValueError(f"speaker_listener: {len(seeds)} seeds for {self.num_envs} environments")
            generators = [np.random.default_rng(s) for s in seeds]
            goals = [int(generator.integers(WORDS)) for generator in generators]
            places = np.stack([generator.uniform(-1, 1, (5, 2)) for generator in generators])
            self._goal = torch.tensor(goals, device=self.device)
            self._place = torch.as_tensor(places).to(self.device, self.dtype)
            self._generator.manual_seed(seeds[0])
        self._rest()
        return self._present()

    def step(self, action: Tensor) -> TimeStep:
        """One step of each game; actions `(E, 2, 1)`: a word in [0, 3) and a move in [0, 5)."""
        if action.shape != (self.num_envs, 2, 1):
            raise ValueError(f"speaker_listener: actions must be {(self.num_envs, 2, 1)}, got {tuple(action.shape)}")
        said, move = action.squeeze(-1).unbind(-1)
        moved = self._place[:, 1] + self._velocity * DT
        self._place = torch.cat([self._place[:, :1], moved.unsqueeze(1), self._place[:, 2:]], 1)
        self._velocity = self._velocity * (1 - DAMPING) + self._moves[move] * DT
        self._heard = self._words[said]
        self._clock += 1
        next_obs = obs = self._look()
        reward = -(moved - self._place[self._games, 2 + self._goal]).square().sum(-1, keepdim=True).repeat(1, 2)
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
        """Game `index` with the trail of the pictures before, uint8 `(H, W, 3)`."""
        from mappo.envs.draw import draw_speaker_listener

        speaker, listener, *landmarks = self._place[index].cpu().numpy().astype(np.float64)
        heard = self._heard[index]
        if self._clock == 0:
            self._trail = []
        picture = draw_speaker_listener(
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

    def _present(self) -> TimeStep:
        obs = self._look()
        return self._time_step(obs, obs, torch.zeros_like(self._all, dtype=self.dtype), ended=False)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(self.num_envs, *shape, device=self.device, dtype=self.dtype)

    def _scatter(self) -> None:
        self._goal = torch.randint(WORDS, (self.num_envs,), generator=self._generator, device=self.device)
        drawn = torch.rand(self._place.shape, generator=self._generator, device=self.device, dtype=self.dtype)
        self._place = drawn * 2 - 1

    def _rest(self) -> None:
        """An episode begins: the listener stands still, and has heard nothing."""
        self._velocity, self._heard = self._zeros(2), self._zeros(WORDS)
        self._clock = 0

    def _look(self) -> Tensor:
        """What the speaker and the listener see: float32 `(E, 2, 11)`."""
        ways = (self._place[:, 2:] - self._place[:, 1:2]).flatten(1)
        listener = torch.cat([self._velocity, ways, self._heard], -1)
        speaker = functional.pad(self._colors[self._goal], (0, listener.shape[-1] - 3))
        return torch.stack([speaker, listener], 1).float()

    def _time_step(self, obs: Tensor, next_obs: Tensor, reward: Tensor, ended: bool) -> TimeStep:
        return time_step(self._all, obs, next_obs, reward, first=self._clock == 0, ended=ended)


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

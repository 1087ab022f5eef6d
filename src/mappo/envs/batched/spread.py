"""mpe2's `simple_spread_v3`, batched in torch: N agents cover N landmarks, together, without bumping.

The same numbers as mpe2 1.1.1, step for step (law 9): positions move by the old velocity, then the velocity is
damped and takes the force; contact is soft; the reward is read after the move. All environments are in step,
for an episode has one length, so that "is it over" is known without asking the device.

The MAPPO paper's code plays another game under this name, which `conventions` gives too, for its published returns.

mpe2's `state()` is the observations side by side, which is what a critic's `joint` input is: this environment
gives no state of its own.
"""

import itertools
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads, Spec
from mappo.envs.batched.particles import DAMPING, DT, MOVES, Particles
from mappo.errors import UserError

CONTACT_FORCE, CONTACT_MARGIN = 100.0, 1e-3
AGENT_RADIUS = 0.15
COVERED = 0.1  # a landmark with an agent this near


class Spread(Particles):
    """`num_envs` games at once, on CPU or GPU; an `Environment`.

    Args:
        num_envs: E. num_agents: N agents and N landmarks.
        horizon: steps of an episode, which then is truncated, never terminated.
        local_ratio: share of the own collisions in an agent's reward; the rest is the common distance.
        dtype: float64 follows mpe2 to rounding; float32 is for training.
        conventions: of mpe2, or of the MAPPO paper's code: the velocity changes first, and then moves the agent;
            landmarks lie within 0.8 of the middle; and all agents get one number, the sum over agents of the common
            distance and the own collisions, each counted as colliding with itself too, whatever `local_ratio` is.
            The order of the actions is mpe2's in both.
    """

    name = "spread"
    names = ("place", "velocity")

    def __init__(
        self,
        num_envs: int,
        num_agents: int = 3,
        horizon: int = 25,
        local_ratio: float = 0.5,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        conventions: Literal["mpe2", "paper"] = "mpe2",
    ) -> None:
        if conventions not in ("mpe2", "paper"):
            raise UserError(f"spread has the conventions 'mpe2' and 'paper', got {conventions!r}")
        if num_envs < 1 or num_agents < 1 or horizon < 1:
            raise UserError(
                f"spread needs at least one environment, agent and step: {num_envs}, {num_agents}, {horizon}"
            )
        self.num_agents, self.local_ratio = num_agents, local_ratio
        self.paper = conventions == "paper"
        self._square = 0.8 if self.paper else 1.0  # half the side of where landmarks start
        obs_space = spaces.Box(-np.inf, np.inf, (6 * num_agents,), np.float32)
        spec = Spec(
            agents=tuple(f"agent_{i}" for i in range(num_agents)),
            obs_spaces=(obs_space,) * num_agents,
            action_heads=(ActionHeads((len(MOVES),)),) * num_agents,
            groups=(0,) * num_agents,
            shared_reward=self.paper,
        )
        super().__init__(num_envs, horizon, spec, device, dtype)
        self._eye = torch.eye(num_agents, device=self.device, dtype=dtype)
        pairs = [i * num_agents + j for i in range(num_agents) for j in range(num_agents) if i != j]
        self._others = torch.tensor(pairs, device=self.device, dtype=torch.long)  # in the order of the agents
        self._silence = self._zeros(num_agents, 2 * (num_agents - 1))
        self._place = self._zeros(2 * num_agents, 2)  # agents, then landmarks
        self._trail: list[np.ndarray] = []
        self._reset_state()
        self._observe()

    def render(self, index: int) -> np.ndarray:
        """Game `index` with the trails of the pictures before, uint8 `(H, W, 3)`."""
        from mappo.envs.batched.rendering import render_spread

        agents, landmarks = self._place[index].cpu().numpy().astype(np.float64).reshape(2, -1, 2)
        if self._clock == 0:
            self._trail = []
        covered = int((self._to_goal[index].amin(0) < COVERED).sum())
        picture = render_spread(
            agents,
            landmarks,
            agent_radius=AGENT_RADIUS,
            trails=self._trail,
            title=f"step {self._clock} of {self.horizon}",
            caption=f"landmarks covered: {covered} of {self.num_agents}",
        )
        self._trail.append(agents)
        return picture

    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> None:
        places = np.stack([generator.uniform(-1, 1, (2 * self.num_agents, 2)) for generator in generators])
        places[:, self.num_agents :] *= self._square
        self._place = self._placed(places)

    def _sample_state(self) -> None:
        self._place = self._uniform(2 * self.num_agents, 2)
        self._place[:, self.num_agents :] *= self._square

    def _reset_state(self) -> None:
        self._velocity = self._zeros(self.num_agents, 2)

    def _advance(self, action: Tensor) -> None:
        """In [0, 5)."""
        n, force = self.num_agents, self._moves[action] + self._contact()
        velocity = self._velocity * (1 - DAMPING) + force * DT
        if self.paper:
            self._velocity = velocity
        moved = self._place[:, :n] + self._velocity * DT
        self._place = torch.cat([moved, self._place[:, n:]], 1)
        self._velocity = velocity

    def _observe(self) -> Tensor:
        """Measures all distances, and gives what each agent sees: float32 `(E, A, 6 N)`."""
        agents, landmarks = self._place[:, : self.num_agents], self._place[:, self.num_agents :]
        self._between = agents.unsqueeze(1) - agents.unsqueeze(2)  # [e, i, j]: from i to j
        to_landmarks = landmarks.unsqueeze(1) - agents.unsqueeze(2)
        # An agent is 1 away from itself: further than any contact, and no division by 0.
        self._apart = _length(self._between) + self._eye
        self._to_goal = _length(to_landmarks)
        others = self._between.flatten(1, 2)[:, self._others].reshape(self.num_envs, self.num_agents, -1)
        seen = torch.cat([self._velocity, agents, to_landmarks.flatten(2), others, self._silence], -1)
        return seen.float()

    def _contact(self) -> Tensor:
        """The soft push between overlapping agents, before the move."""
        apart = self._apart.clamp_min(1e-9)
        depth = -(apart - 2 * AGENT_RADIUS) / CONTACT_MARGIN
        depth = torch.logaddexp(torch.zeros_like(depth), depth) * CONTACT_MARGIN
        return -(self._between * (CONTACT_FORCE * depth / apart).unsqueeze(-1)).sum(2)

    def _reward(self) -> Tensor:
        common = -self._to_goal.amin(1).sum(-1, keepdim=True)
        own = -(self._apart < 2 * AGENT_RADIUS).sum(-1)
        if self.paper:
            return (common + own - 1).sum(-1, keepdim=True).repeat(1, self.num_agents)
        return common * (1 - self.local_ratio) + own * self.local_ratio


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def baselines(num_agents: int) -> dict[str, Any]:
    """What a team is measured by; the planner tries all N! assignments, so it is for few."""
    return {"planner": central_planner} if num_agents <= 6 else {}


def central_planner(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """A baseline that sees everything: assigns agents to landmarks by least total distance, anew each step.

    Each agent moves along the larger entry of `target - position - 0.35 * velocity`, or stays if that is
    under 0.05. It tries all N! assignments: meant for few agents.

    Args:
        obs: `(E, A, 6 N)`. memory: handed back.

    Returns:
        Actions `(E, A, 1)`, and the memory.
    """
    envs, agents = obs.shape[:2]
    velocity, to_landmarks = obs[..., :2], obs[..., 4 : 4 + 2 * agents].reshape(envs, agents, agents, 2)
    orders = torch.tensor(list(itertools.permutations(range(agents))), device=obs.device)  # (N!, A)
    rows = torch.arange(agents, device=obs.device)
    total = _length(to_landmarks)[:, rows, orders].sum(-1)  # (E, N!)
    goal = orders[total.argmin(-1)]  # (E, A)
    index = goal[..., None, None].expand(-1, -1, 1, 2)
    error = to_landmarks.gather(2, index).squeeze(2) - 0.35 * velocity
    size, axis = error.abs().max(-1)
    positive = error.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0
    move = 1 + 2 * axis + positive.long()  # 1 left, 2 right, 3 down, 4 up
    return torch.where(size < 0.05, 0, move).unsqueeze(-1), memory

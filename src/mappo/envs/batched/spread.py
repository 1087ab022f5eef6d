"""mpe2's `simple_spread_v3`, batched in torch: N agents cover N landmarks together, without collisions.

The environment computes the same numbers as mpe2 1.1.1, step for step (law 9). Agents move by the old velocity; then
the velocity is damped and takes the force. Contact is soft, and the reward is read after the move. All environments
are at the same step, because an episode has a fixed length: no line waits for the device to learn if it is over.

The MAPPO paper's code has another task of the same name. The option `conventions` selects it, to compare with the
published returns.

mpe2's `state()` concatenates the observations, as the critic's input `joint` does: this environment has no own state.
"""

import itertools
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import Spec
from mappo.envs.batched.base import vector_length
from mappo.envs.batched.particles import DT, MOVES, Particles, action_heads
from mappo.envs.batched.steering import push, steer
from mappo.errors import UserError

CONTACT_FORCE = 100.0
CONTACT_MARGIN = 1e-3
AGENT_RADIUS = 0.15


class Spread(Particles):
    """Batch of E spread games on CPU or GPU, an `Environment`.

    The MAPPO paper's code has other rules, selected by `conventions="paper"`:

    - The new velocity moves the agent.
    - Landmarks lie within 0.8 of the middle.
    - All agents receive the same number, whatever `local_ratio` is. It is the sum over agents of the common distance
      and of each agent's collisions.
    - An agent also collides with itself.

    The order of the actions stays mpe2's.

    Args:
        num_envs: E.
        num_agents: N, the number of agents and of landmarks.
        horizon: steps of an episode, which is then truncated, never terminated.
        local_ratio: weight of an agent's own collisions in its reward; the common distance has the rest.
        device: device of all tensors.
        dtype: float64 follows mpe2 to rounding; float32 is for training.
        conventions: "mpe2" or "paper".
        continuous_actions: as mpe2's, see `Particles`.

    Raises:
        UserError: `conventions` is unknown, or a size is less than 1.
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
        continuous_actions: bool = False,
    ) -> None:
        if conventions not in ("mpe2", "paper"):
            raise UserError(f"spread has the conventions 'mpe2' and 'paper', got {conventions!r}")
        if min(num_envs, num_agents, horizon) < 1:
            sizes = f"{num_envs}, {num_agents}, {horizon}"
            raise UserError(f"spread needs at least one environment, agent and step: {sizes}")
        self.num_agents = num_agents
        self.local_ratio = local_ratio
        self.paper = conventions == "paper"
        self._square = 0.8 if self.paper else 1.0  # half the side of the square where landmarks start
        spec = Spec(
            agents=tuple(f"agent_{i}" for i in range(num_agents)),
            obs_spaces=(spaces.Box(-np.inf, np.inf, (6 * num_agents,), np.float32),) * num_agents,
            action_heads=(action_heads(len(MOVES), continuous_actions),) * num_agents,
            groups=(0,) * num_agents,
            shared_reward=self.paper,
        )
        layout = {"velocity": (num_agents, 2), "place": (2 * num_agents, 2)}  # places of agents, then of landmarks
        super().__init__(num_envs, horizon, spec, device, dtype, layout)
        self._agents = self._place[:num_agents]
        self._set_obs([self._view(agent) for agent in range(num_agents)])
        # Ways and distances from each agent to the landmarks, then to the other agents. `_observe` measures them; the
        # next step reads them, so that they stay at their addresses as well.
        ways = self._obs[:, 4 : 4 * num_agents + 2].view(num_agents, -1, 2, num_envs)  # a view: (N, 2 N - 1, 2, E)
        self._xy = ways.unbind(2)
        self._between = ways[:, num_agents:]
        self._distances = torch.zeros_like(self._xy[0])  # (N, 2 N - 1, E)
        self._to_goal = self._distances[:, :num_agents]
        self._apart = self._distances[:, num_agents:]
        self._observe()

    def render(self, index: int) -> np.ndarray:
        """Render environment `index` with the trails since the last pictures, uint8 `(H, W, 3)`."""
        from mappo.envs.batched.rendering import COVERED_WITHIN, render_spread

        agents, landmarks = np.split(self._positions(index), 2)
        covered = int((self._to_goal[..., index].amin(0) < COVERED_WITHIN).sum())
        return render_spread(
            agents,
            landmarks,
            agent_radius=AGENT_RADIUS,
            trails=self._extend_trail(agents),
            title=f"step {self.phase} of {self.horizon}",
            caption=f"landmarks covered: {covered} of {self.num_agents}",
        )

    def _view(self, agent: int) -> list[tuple[Tensor, Tensor | None]]:
        """Return the rows of an agent's observation, for `_set_obs`."""
        place = self._row["place"]
        agents = place[: self.num_agents]
        others = torch.cat([agents[:agent], agents[agent + 1 :]])
        itself = [(self._row["velocity"][agent], None), (agents[agent], None)]
        silence = torch.zeros_like(others)  # in mpe2, what the other agents say
        return [*itself, (place[self.num_agents :], agents[agent]), (others, agents[agent]), (silence, None)]

    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> dict[str, Tensor]:
        places = np.stack([generator.uniform(-1, 1, (2 * self.num_agents, 2)) for generator in generators])
        places[:, self.num_agents :] *= self._square
        return {"place": self._to_tensor(places)}

    def _sample_state(self) -> dict[str, Tensor]:
        place = self._uniform(2 * self.num_agents, 2)
        place[:, self.num_agents :] *= self._square
        return {"place": place}

    def _advance(self, action: Tensor) -> None:
        """Apply moves: choices in [0, 5), or five numbers."""
        if not self.paper:
            self._drift()
        self._push(action)
        self._velocity.sub_(self._contact(), alpha=CONTACT_FORCE * DT)
        if self.paper:
            self._drift()

    def _observe(self) -> Tensor:
        obs = super()._observe()
        torch.hypot(*self._xy, out=self._distances)
        return obs

    def _contact(self) -> Tensor:
        """Return the soft contact that slows each agent, by the distances before the move: `(N, 2, E)`."""
        apart = self._apart.clamp_min(1e-9)
        # softplus. torch's own rounds the last numbers of a tensor in another way than the first, as logaddexp does:
        # seeds would differ from their single runs.
        exponent = (2 * AGENT_RADIUS - apart) / CONTACT_MARGIN
        depth = CONTACT_MARGIN * (exponent.clamp_min(0) + exponent.abs().neg_().exp_().log1p_())
        return (self._between * (depth / apart).unsqueeze(2)).sum(1)

    def _reward(self) -> Tensor:
        common = self._to_goal.amin(0).sum(0)
        collisions = (self._apart < 2 * AGENT_RADIUS).sum(1, dtype=self.dtype)
        if self.paper:
            return -(common + collisions + 1).sum(0).expand(self.num_agents, -1)
        return common.lerp(collisions, self.local_ratio).neg_()


def baselines(spec: Spec) -> dict[str, Any]:
    """Return the scripted policies for comparison; with many agents the planner would try too many assignments."""
    planner = continuous_planner if spec.continuous else central_planner
    return {"planner": planner} if spec.num_agents <= 6 else {}


def central_planner(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as a baseline with access to all observations: assign agents to landmarks by least total distance.

    The planner assigns anew at each step, and tries all N! assignments: it is meant for few agents. Each agent moves
    along the larger entry of `target - position - 0.35 * velocity`, or stays if the entry is under 0.05.

    Args:
        obs: `(E, A, 6 N)`.
        memory: returned unchanged.

    Returns:
        Actions `(E, A, 1)`, and the memory.
    """
    return steer(_assigned_ways(obs) - 0.35 * obs[..., :2], 0.05).unsqueeze(-1), memory


def continuous_planner(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as `central_planner` with continuous actions `(E, A, 5)`, along both axes at once: see `push`."""
    return push(_assigned_ways(obs), obs[..., :2]), memory


def _assigned_ways(obs: Tensor) -> Tensor:
    """Return the way of each agent to its landmark, `(E, A, 2)`, in the assignment of least total distance."""
    envs, agents = obs.shape[:2]
    to_landmarks = obs[..., 4 : 4 + 2 * agents].reshape(envs, agents, agents, 2)
    orders = torch.tensor(list(itertools.permutations(range(agents))), device=obs.device)  # (N!, A)
    total = vector_length(to_landmarks)[:, torch.arange(agents, device=obs.device), orders].sum(-1)  # (E, N!)
    goal = orders[total.argmin(-1)]  # (E, A)
    return to_landmarks.gather(2, goal[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)

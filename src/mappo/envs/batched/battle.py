"""A skirmish after SMAC (arXiv:1902.04043), small enough to be a few tensors: N agents against N scripted enemies.

All units are alike. The enemies see everything and follow `attack_nearest`: a team with the same script wins as often
as it loses. To win nearly always, the team has to gather first, and then to attack one enemy together.

Battles won in %, and mean returns, over 2000 episodes (reset seeds 0 to 1999):

    N                  random        attack_nearest    focus_fire
    2                  0    0.85     30    11.73       69    16.63
    3                  0    0.85     41    12.76       88    18.75
    5 (the default)    0    0.87     50    13.80       97    19.64
    8                  0    0.88     50    13.97       97    19.66
    10                 0    0.89     52    14.26       98    19.72
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.base import vector_length
from mappo.envs.batched.battle_scripts import ATTACK, HEALTH, NO_OP, RANGE, STEP, STOP, aim_at_nearest
from mappo.envs.batched.tensor_game import TensorGame, Tensors, one_hot, spec_of
from mappo.errors import UserError

ARENA = 1.5  # half the side of the square
SIGHT = 1.0
# Units start between NEAR and FAR from the middle in x, and within HALF in y.
NEAR = 0.75
FAR = 1.25
HALF = 0.625
MOVES = ((0.0, 0.0), (0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
DAMAGE_PAY = 5.0  # for all the enemies' health
KILL_PAY = 5.0  # for all their deaths
WIN_PAY = 10.0


class Battle(TensorGame):
    """Batch of E battles on CPU or GPU, an `Environment`, `Resumable` and `Renderable`.

    Units stand in a square from -1.5 to 1.5. The team starts on the left, the enemies on the right. All act at once.
    Units do not collide. An attack reaches a unit within 0.5 of the attacker before the moves. The unit loses one of 8
    points of health, and dies with the last. The start of a battle depends on its own seed alone.

    Actions are 0 no-op, 1 stop, 2 to 5 a move by 0.125 to the left, right, down or up, and 6 + j to attack enemy j. The
    mask leaves no-op to the dead, and to them alone. It leaves moves within the square, and attacks on living enemies
    in range. An illegal action is a stop.

    An agent observes 6 N numbers. The first three are its own health (from 0 to 1), x and y. Then come health and way
    (x, y) of every other agent, and of every enemy, in order. A unit at a distance above 1 is three zeros, and so is a
    dead unit. The dead observe NaN. The state is health, x and y of all units, `(6 N,)`, zeros for the dead.

    The reward belongs to the team: every agent receives it, dead or alive. It is 5 for all damage, 5 for all kills and
    10 for a victory. A victory needs a survivor. A won battle therefore brings 20, as in SMAC. The episode ends by
    itself when one side is dead. The time limit truncates it.

    Args:
        num_envs: E.
        num_agents: N, the number of agents and of enemies.
        horizon: the time limit in steps.
        device: device of all tensors.

    Raises:
        UserError: there are fewer than one environment, two agents or one step.
    """

    name = "battle"

    def __init__(
        self, num_envs: int, num_agents: int = 5, horizon: int = 60, device: torch.device | str = "cpu"
    ) -> None:
        if num_envs < 1 or num_agents < 2 or horizon < 1:
            raise UserError(
                f"battle needs at least one environment, two agents and one step: {num_envs}, {num_agents}, {horizon}"
            )
        n = num_agents
        self.num_agents = num_agents
        obs_space = spaces.Box(-ARENA, ARENA, (6 * n,), np.float32)
        heads = ActionHeads((ATTACK + n,))
        self._moves = torch.tensor((*MOVES, *((0.0, 0.0),) * n), device=device) * STEP
        self._side = torch.tensor([-1.0] * n + [1.0] * n, device=device)
        self._is_place = torch.tensor([0.0, 1.0, 1.0], device=device)
        # Of the columns in `_obs`: health, x and y of each agent, then views [i, j], in threes; i sees all but itself.
        starts = [(3 * i, *(3 * (n + 2 * n * i + j) for j in range(2 * n) if j != i)) for i in range(n)]
        self._order = (torch.tensor(starts).view(-1, 1) + torch.arange(3)).flatten().to(device)
        spec = spec_of([obs_space] * n, [heads] * n, state_size=6 * n, shared_reward=True)
        super().__init__(num_envs, spec, horizon, device)

    def render(self, index: int) -> np.ndarray:
        """Render battle `index` and the attacks of its last step, uint8 `(H, W, 3)`.

        A unit is filled in proportion to its health, and a dead unit is a small mark. A line grows from each attacker
        to its target.
        """
        from mappo.envs.batched.rendering import AGENT_COLORS, COLLISION, Canvas

        place, health, aim = (self._tensors[k][index].cpu().numpy() for k in ("place", "health", "aim"))
        place = place.astype(np.float64)
        health = health / HEALTH
        n = self.num_agents
        canvas = Canvas()
        colors = [AGENT_COLORS[0]] * n + [COLLISION] * n
        for unit, target in enumerate(aim):
            if target >= 0:
                ways = [[place[unit] + k / 5 * (place[target] - place[unit])] for k in range(6)]
                canvas.trails(ways, [colors[unit]])
        for point, fill, color in zip(place, health, colors, strict=True):
            canvas.agent(point, 0.07 if fill else 0.03, color, False)
            if fill:
                canvas.flag(point, 0.07 * math.sqrt(fill), color, False)
        alive = [int((side > 0).sum()) for side in (health[:n], health[n:])]
        title = f"step {int(self._tensors['clock'][index])} of {self.horizon}"
        return canvas.finish(title, f"alive: {alive[0]} of the team, {alive[1]} enemies")

    def _begin_episodes(self) -> Tensors:
        num_units = 2 * self.num_agents
        return {
            "place": self._start_places(self._rand(num_units, 2)),
            "health": self._ones(num_units) * HEALTH,
            "aim": torch.full((self.num_envs, num_units), -1, device=self.device),
        }

    def _start_from_seeds(self, seeds: Sequence[int]) -> Tensors:
        samples = np.stack([np.random.default_rng(s).random((2 * self.num_agents, 2), np.float32) for s in seeds])
        return {"place": self._start_places(torch.as_tensor(samples).to(self.device))}

    def _start_places(self, samples: Tensor) -> Tensor:
        """Map samples in [0, 1) to positions `(E, 2 N, 2)`, the team's first."""
        x, y = samples.unbind(-1)
        return torch.stack([self._side * (NEAR + (FAR - NEAR) * x), HALF * (2 * y - 1)], -1)

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        """Apply the actions of all units; "aim" is the unit under attack, for pictures."""
        n = self.num_agents
        legal = torch.where(self._mask(tensors).gather(-1, action), action, STOP).squeeze(-1)
        choice = torch.cat([legal, self._enemy_actions(tensors)], 1)  # (E, 2 N)
        target = choice - ATTACK
        hits = one_hot(target, n)
        hit = torch.cat([hits[:, n:].sum(1), hits[:, :n].sum(1)], 1)
        foe = target + n * (self._side < 0)
        return {
            "place": tensors["place"] + self._moves[choice],
            "health": (tensors["health"] - hit).clamp_min(0),
            "aim": torch.where(target >= 0, foe, -1),
        }

    def _masked_reward(self, tensors: Tensors, action: Tensor, after: Tensors) -> Tensor:
        """Return the team's reward for all agents `(E, A)`, dead or alive."""
        n = self.num_agents
        before = tensors["health"][:, n:]
        health = after["health"][:, n:]
        damage = (before - health).sum(-1) / HEALTH
        kills = ((before > 0) & (health == 0)).sum(-1)
        won = (health == 0).all(-1) & self._active(after).any(-1)
        reward = (DAMAGE_PAY * damage + KILL_PAY * kills) / n + WIN_PAY * won
        return reward.unsqueeze(-1).repeat(1, n)

    def _over(self, tensors: Tensors) -> Tensor:
        return (tensors["health"][:, self.num_agents :] == 0).all(-1) | super()._over(tensors)

    def _enemy_actions(self, tensors: Tensors) -> Tensor:
        """Return the enemies' actions `(E, N)`, in the numbers of the agents' actions."""
        n = self.num_agents
        alive = tensors["health"] > 0
        ways = tensors["place"][:, :n].unsqueeze(1) - tensors["place"][:, n:].unsqueeze(2)
        choice = aim_at_nearest(ways, alive[:, :n].unsqueeze(1).expand(-1, n, -1))
        return torch.where(alive[:, n:], choice, NO_OP)

    def _active(self, tensors: Tensors) -> Tensor:
        return tensors["health"][:, : self.num_agents] > 0

    def _mask(self, tensors: Tensors) -> Tensor:
        n = self.num_agents
        alive = tensors["health"] > 0
        acting = alive[:, :n].unsqueeze(-1)
        place = tensors["place"][:, :n]
        x, y = (place.unsqueeze(2) + self._moves[2:ATTACK]).abs().unbind(-1)
        inside = torch.maximum(x, y) <= ARENA
        near = vector_length(tensors["place"][:, n:].unsqueeze(1) - place.unsqueeze(2)) <= RANGE
        attack = near & alive[:, n:].unsqueeze(1)
        return torch.cat([~acting, acting, inside & acting, attack & acting], -1)

    def _obs(self, tensors: Tensors) -> Tensor:
        n = self.num_agents
        units = self._units(tensors)
        itself = units[:, :n]
        views = units.unsqueeze(1) - (itself * self._is_place).unsqueeze(2)  # health and way: (E, N, 2 N, 3)
        in_sight = (tensors["health"] > 0).unsqueeze(1) & (vector_length(views[..., 1:]) <= SIGHT)
        views = views * in_sight.unsqueeze(-1)
        columns = torch.cat([itself.flatten(1), views.flatten(1)], 1)
        return columns.index_select(1, self._order).view(self.num_envs, n, -1)

    def _state(self, tensors: Tensors) -> Tensor:
        return (self._units(tensors) * (tensors["health"] > 0).unsqueeze(-1)).flatten(1)

    def _units(self, tensors: Tensors) -> Tensor:
        """Return health, x and y of all units: `(E, 2 N, 3)`."""
        return torch.cat([tensors["health"].unsqueeze(-1) / HEALTH, tensors["place"]], -1)

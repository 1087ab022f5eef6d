"""A skirmish after SMAC (arXiv:1902.04043), small enough to be a few tensors: N fighters against N scripted enemies.

All units are alike, and the enemies, who see everything, play `attack_nearest`: a team that does the same wins as
often as it loses. To win nearly always it has to gather first, and then to shoot at one enemy together.

Games won in %, and mean returns, over 2000 games (reset seeds 0 to 1999):

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
from mappo.core.timestep import TimeStep
from mappo.envs.batched.battle_scripts import ATTACK, HEALTH, NO_OP, RANGE, STEP, STOP, aim_at_nearest, vector_length
from mappo.envs.batched.tensor_game import TensorGame, Tensors, one_hot, spec_of
from mappo.errors import UserError

ARENA = 1.5  # half the side of the square
SIGHT = 1.0
NEAR, FAR, HALF = 0.75, 1.25, 0.625  # where units start: this far from the middle in x, and in y within HALF
MOVES = ((0.0, 0.0), (0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
DAMAGE_PAY, KILL_PAY, WIN_PAY = 5.0, 5.0, 10.0  # for all the enemies' health, for all their deaths, for the victory


class Battle(TensorGame):
    """`num_envs` battles at once, on CPU or GPU; an `Environment`, `Resumable` and `Renderable`.

    Units stand in a square from -1.5 to 1.5, the team on the left, the enemies on the right, and all act at once:
    whoever is within 0.5 of an attacker before the moves loses one of 8 points of health, and is dead without any.
    Units do not bump. Choices are 0 no-op, 1 stop, 2 to 5 a move by 0.125 to the left, right, down or up, and 6 + j
    to attack enemy j. The mask leaves no-op to the dead and to them alone, moves within the square, and attacks on the
    living in range; whatever is illegal is a stop.

    An agent observes 6 N numbers: health (from 0 to 1), x and y of its own; then of every other agent, and then of
    every enemy, in order, health and the way there (x, y), zeros if that one is dead or further away than 1. The
    dead observe NaN. The state is health, x and y of all units, `(6 N,)`, zeros of the dead.

    Reward is the team's, and every agent's, dead or alive: 5 for all damage, 5 for all kills and 10 for a victory,
    which needs a survivor. A won game so brings 20, as in SMAC. With one side dead the episode ends by itself; the
    time limit truncates it.

    Args:
        num_envs: E. num_agents: N agents and N enemies. horizon: the time limit, in steps.
    """

    def __init__(
        self, num_envs: int, num_agents: int = 5, horizon: int = 60, device: torch.device | str = "cpu"
    ) -> None:
        if num_envs < 1 or num_agents < 2 or horizon < 1:
            raise UserError(
                f"battle needs at least one environment, two agents and one step: {num_envs}, {num_agents}, {horizon}"
            )
        self.num_agents, n = num_agents, num_agents
        sees, heads = spaces.Box(-ARENA, ARENA, (6 * n,), np.float32), ActionHeads((ATTACK + n,))
        self._moves = torch.tensor((*MOVES, *((0.0, 0.0),) * n), device=device) * STEP
        self._side = torch.tensor([-1.0] * n + [1.0] * n, device=device)
        others = [i * n + j for i in range(n) for j in range(n) if i != j]
        self._others = torch.tensor(others, device=device, dtype=torch.long)
        super().__init__(
            num_envs, spec_of([sees] * n, [heads] * n, state_size=6 * n, shared_reward=True), horizon, device
        )

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """All battles anew; where units start in one of them depends on its own seed alone."""
        if seed is None:
            return super().reset()
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"battle: {len(seeds)} seeds for {self.num_envs} environments")
        drawn = np.stack([np.random.default_rng(s).random((2 * self.num_agents, 2), np.float32) for s in seeds])
        super().reset(seeds)
        self._tensors = {**self._tensors, "place": self._placed(torch.as_tensor(drawn).to(self.device))}
        return self.current_step()

    def step(self, action: Tensor) -> TimeStep:
        """One step of each battle; actions `(E, A, 1)` in [0, 6 + N)."""
        if action.shape != (self.num_envs, self.num_agents, 1):
            raise ValueError(
                f"battle: actions must be {(self.num_envs, self.num_agents, 1)}, got {tuple(action.shape)}"
            )
        game, n = self._tensors, self.num_agents
        own = torch.where(self._mask(game).gather(-1, action), action, STOP).squeeze(-1)
        after = {
            **game,
            **self._next_tensors(game, torch.cat([own, self._enemies(game)], 1)),
            "clock": game["clock"] + 1,
        }
        before, left = game["health"], after["health"]
        lost, killed = (before - left)[:, n:].sum(-1) / HEALTH, ((before > 0) & (left == 0))[:, n:].sum(-1)
        standing, beaten = self._active(after), (left[:, n:] == 0).all(-1)
        won = beaten & standing.any(-1)
        reward = (DAMAGE_PAY * lost + KILL_PAY * killed) / n + WIN_PAY * won
        over = beaten | ~standing.any(-1)
        ended = over | (after["clock"] >= self.horizon)
        start = self._start()
        self._tensors = {k: torch.where(ended.view(-1, *[1] * (v.ndim - 1)), start[k], v) for k, v in after.items()}
        died = (self._active(game) & ~standing) | over.unsqueeze(-1)
        return self._time_step(after, reward.unsqueeze(-1).repeat(1, n), died, ended)

    def render(self, index: int) -> np.ndarray:
        """Battle `index` and the attacks of its last step, uint8 `(H, W, 3)`."""
        place, health, aim = (self._tensors[k][index].cpu().numpy() for k in ("place", "health", "aim"))
        return render_battle(
            place.astype(np.float64),
            health / HEALTH,
            shots=[(unit, int(target)) for unit, target in enumerate(aim) if target >= 0],
            title=f"step {int(self._tensors['clock'][index])} of {self.horizon}",
        )

    def _begin_episodes(self) -> Tensors:
        units = (self.num_envs, 2 * self.num_agents)
        drawn = self._rand(units[1], 2)
        nobody = torch.full(units, -1, device=self.device)
        return {"place": self._placed(drawn), "health": self._ones(units[1]) * HEALTH, "aim": nobody}

    def _placed(self, drawn: Tensor) -> Tensor:
        """Places `(E, 2 N, 2)`, the team's first, from numbers in [0, 1)."""
        x, y = drawn.unbind(-1)
        return torch.stack([self._side * (NEAR + (FAR - NEAR) * x), HALF * (2 * y - 1)], -1)

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        """What the actions of all units, `(E, 2 N)`, bring; whom each one aims at is kept for pictures."""
        n, target = self.num_agents, action - ATTACK
        hits = one_hot(target, n)
        hit = torch.cat([hits[:, n:].sum(1), hits[:, :n].sum(1)], 1)
        foe = target + n * (self._side < 0)
        return {
            "place": game["place"] + self._moves[action],
            "health": (game["health"] - hit).clamp_min(0),
            "aim": torch.where(target >= 0, foe, -1),
        }

    def _enemies(self, game: Tensors) -> Tensor:
        """What the enemies choose: `(E, N)`, in the numbers of the agents' actions."""
        n, alive = self.num_agents, game["health"] > 0
        ways = game["place"][:, :n].unsqueeze(1) - game["place"][:, n:].unsqueeze(2)
        choice = aim_at_nearest(ways, alive[:, :n].unsqueeze(1).expand(-1, n, -1))
        return torch.where(alive[:, n:], choice, NO_OP)

    def _active(self, game: Tensors) -> Tensor:
        return game["health"][:, : self.num_agents] > 0

    def _mask(self, game: Tensors) -> Tensor:
        n, alive = self.num_agents, game["health"] > 0
        own = alive[:, :n].unsqueeze(-1)
        place = game["place"][:, :n]
        inside = ((place.unsqueeze(2) + self._moves[2:ATTACK]).abs() <= ARENA).all(-1)
        near = vector_length(game["place"][:, n:].unsqueeze(1) - place.unsqueeze(2)) <= RANGE
        attack = near & alive[:, n:].unsqueeze(1)
        return torch.cat([~own, own, inside & own, attack & own], -1)

    def _obs(self, game: Tensors) -> Tensor:
        n, units = self.num_agents, self._units(game)
        ways = units[:, None, :, 1:] - units[:, :n, None, 1:]
        seen = (game["health"] > 0).unsqueeze(1) & (vector_length(ways) <= SIGHT)
        health = units[:, None, :, :1].expand(-1, n, -1, -1)
        rows = torch.cat([health, ways], -1) * seen.unsqueeze(-1)  # (E, N, 2 N, 3)
        others = rows[:, :, :n].flatten(1, 2)[:, self._others].reshape(self.num_envs, n, -1)
        return torch.cat([units[:, :n], others, rows[:, :, n:].flatten(2)], -1)

    def _state(self, game: Tensors) -> Tensor:
        return (self._units(game) * (game["health"] > 0).unsqueeze(-1)).flatten(1)

    def _units(self, game: Tensors) -> Tensor:
        """Health, x and y of each: `(E, 2 N, 3)`."""
        return torch.cat([game["health"].unsqueeze(-1) / HEALTH, game["place"]], -1)


def render_battle(
    place: np.ndarray,
    health: np.ndarray,
    *,
    shots: Sequence[tuple[int, int]] = (),
    title: str = "",
    size: int = 480,
) -> np.ndarray:
    """Draw units (2 N, 2), the team's first, and their health (2 N,) from 0 to 1, as an image (H, W, 3), W = `size`.

    A unit is full as far as it is healthy, and a small mark where it is dead; a line grows from who shoots to whom.
    """
    from PIL import Image, ImageDraw

    from mappo.envs.batched import rendering as draw

    strip, scale, team = round(size * 0.07), 3, len(place) // 2
    image = Image.new("RGB", (size * scale, (size + 2 * strip) * scale))
    canvas = draw.Canvas(ImageDraw.Draw(image, "RGBA"), size * scale, strip * scale)
    canvas.field()
    colors = [draw.AGENT_COLORS[0]] * team + [draw.COLLISION] * team
    for unit, target in shots:
        canvas.trail([place[unit] + part / 5 * (place[target] - place[unit]) for part in range(6)], colors[unit])
    for point, left, color in zip(place, health, colors, strict=True):
        canvas.agent(point, 0.07 if left else 0.03, color, False)
        if left:
            canvas.flag(point, 0.07 * math.sqrt(left), color, False)
    alive = [int((side > 0).sum()) for side in (health[:team], health[team:])]
    canvas.captions(title, f"alive: {alive[0]} of the team, {alive[1]} enemies")
    return np.array(image.reduce(scale))

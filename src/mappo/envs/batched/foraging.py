"""Level-based foraging of the package lbforaging 2.0.0, batched in torch: agents walk to food and load it together.

The environment computes the same numbers as the package, step for step (law 9). The package gives each agent a reward
of its own, and has no state: the critic's input `joint` is all observations side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mappo.core.spec import ActionHeads
from mappo.envs.batched.foraging_rules import ForagingRules, registered_names, rules_of
from mappo.envs.batched.foraging_sight import ForagingSight
from mappo.envs.batched.foraging_starts import Starts
from mappo.envs.batched.tensor_game import TensorGame, Tensors, spec_of

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))


class Foraging(TensorGame):
    """E games on CPU or GPU, an `Environment`, `Resumable` and `Renderable`.

    Players and food stand on a square field. Actions are none, north (one row up), south, west, east and load. The mask
    leaves moves within the field and off the food, and load beside food. An illegal action is none. A seed gives the
    same episode as a new environment of lbforaging.

    A player enters a cell unless another player heads for it too, or stays in it. A player whose way is blocked stays,
    and counts at the cell ahead, not at its own: another player may then enter, and both stand in one cell.

    Players beside an item of food that load at the same step load together. Their levels must add up to the food's
    level; otherwise each of them pays the penalty. The food's level is paid to them in proportion to their levels, and
    divided by the levels of all food of the episode. The episode ends by itself when no food is left; the time limit
    truncates it.

    An agent observes row, column and level of each item of food in sight, row by row, then of itself, and of the other
    players in sight. (-1, -1, 0) stands for all others. Rows and columns count from the first in sight. As in the
    package, near the upper and the left edge players are seen farther away than food.

    Args:
        num_envs: E.
        rules: rules of the game.
        device: device of all tensors.

    Raises:
        UserError: there is no environment.
    """

    name = "foraging"

    def __init__(self, num_envs: int, rules: ForagingRules, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        n = rules.size
        self.rules = rules
        self._starts = Starts(rules, device)
        self._sight = ForagingSight(rules, device)
        self._gone = n**2  # the cell of food that is no more
        place = torch.cartesian_prod(torch.arange(n), torch.arange(n)).unsqueeze(1)
        ahead = place + torch.tensor(MOVES)
        is_inside = ((ahead >= 0) & (ahead < n)).all(-1)
        self._ahead = torch.where(is_inside, ahead[..., 0] * n + ahead[..., 1], n**2 + 1).to(device)
        spec = spec_of([rules.obs_space] * rules.players, [ActionHeads((len(MOVES),))] * rules.players)
        super().__init__(num_envs, spec, rules.max_episode_steps, device)

    def render(self, index: int) -> np.ndarray:
        """Render game `index`, uint8 `(H, W, 3)`."""
        from mappo.envs.batched.foraging_picture import render_foraging

        state = {name: x[index].cpu().numpy() for name, x in self._tensors.items()}
        num_items = int((self._tensors["food_level"][index] > 0).sum())
        spawned = int(state.pop("spawned").item())
        loaded = spawned - int(state["food_level"].sum())
        return render_foraging(
            self.rules.size,
            title=f"step {int(state.pop('clock'))} of {self.horizon}",
            caption=f"food left: {num_items}; levels loaded: {loaded} of {spawned}",
            **state,
        )

    def _begin_episodes(self) -> Tensors:
        starts = [self._starts.sample(self.num_envs // len(self.generators), g) for g in self.generators]
        return self._begun({name: torch.cat([start[name] for start in starts]) for name in starts[0]})

    def _start_from_seeds(self, seeds: Sequence[int]) -> Tensors:
        """Return the same episodes as a new environment of lbforaging for each seed."""
        return self._begun(self._starts.from_seeds(seeds))

    def _begun(self, start: Tensors) -> Tensors:
        """Return all tensors of new episodes."""
        return start | {
            "spawned": start["food_level"].sum(1, keepdim=True),
            "pay": torch.zeros(start["cell"].shape, device=self.device),
            "clock": torch.zeros(len(start["cell"]), dtype=torch.long, device=self.device),
        }

    def _restart(self, after: Tensors, ended: Tensor) -> Tensors:
        # A graph of a GPU has fixed shapes, and samples for all games. A CPU saves time, and samples as many as needed.
        if self.device.type != "cpu":
            return super()._restart(after, ended)
        if not ended.any():
            return after
        now = {name: x.clone() for name, x in after.items()}
        for seed, generator in enumerate(self.generators):
            games = self.seed_slice(seed)
            rows = games.start + ended[games].nonzero().squeeze(-1)
            start = self._begun(self._starts.sample(len(rows), generator))
            for name, x in now.items():
                x[rows] = start[name]
        return now

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        ahead, beside, mask = self._around(tensors)
        choice = torch.where(mask.gather(-1, action), action, NONE)
        goal = ahead.gather(-1, choice).squeeze(-1)
        is_alone = (goal.unsqueeze(1) == goal.unsqueeze(2)).sum(-1) == 1
        loads = (choice == LOAD) & beside  # (E, P, F): a player is beside one item of food at most
        strength = (loads * tensors["level"].unsqueeze(-1)).sum(1)
        is_loaded = strength >= tensors["food_level"]  # also where food is gone: nobody loads there
        return {
            "cell": torch.where(is_alone, goal, tensors["cell"]),
            "food": torch.where(is_loaded, self._gone, tensors["food"]),
            "food_level": torch.where(is_loaded, 0, tensors["food_level"]),
            "pay": self._pay(tensors, loads, strength, is_loaded),
        }

    def _pay(self, tensors: Tensors, loads: Tensor, strength: Tensor, is_loaded: Tensor) -> Tensor:
        """Return the rewards `(E, P)`.

        Args:
            tensors: the state before.
            loads: player p loads item f: `(E, P, F)`.
            strength: sum of the levels of an item's players, `(E, F)`.
            is_loaded: the levels suffice, `(E, F)`.
        """
        pay = tensors["level"].unsqueeze(-1) * tensors["food_level"].unsqueeze(1)
        if self.rules.normalize_reward:
            pay = pay / (strength * tensors["spawned"]).unsqueeze(1)
        pay = torch.where(is_loaded.unsqueeze(1), pay, -self.rules.penalty)
        return torch.where(loads, pay, 0.0).sum(-1)

    def _around(self, tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return the cell of each action, the food beside each player, and the mask: `(E, P, 6)`, `(E, P, F)`, ..."""
        ahead = functional.embedding(tensors["cell"], self._ahead)
        moves = ahead[..., NORTH:LOAD]
        touches = moves.unsqueeze(-1) == tensors["food"][:, None, None]
        beside = touches.any(2)
        is_free = (moves < self._gone) & ~touches.any(-1)
        return ahead, beside, torch.cat([self._everyone.unsqueeze(-1), is_free, beside.any(-1, keepdim=True)], -1)

    def _masked_reward(self, tensors: Tensors, action: Tensor, after: Tensors) -> Tensor:
        return after["pay"]

    def _over(self, tensors: Tensors) -> Tensor:
        return (tensors["food"] == self._gone).all(-1)

    def _obs(self, tensors: Tensors) -> Tensor:
        return self._sight(tensors)

    def _mask(self, tensors: Tensors) -> Tensor:
        return self._around(tensors)[2]


def make(name: str, num_envs: int, device: torch.device | str, options: Mapping[str, Any]) -> Foraging:
    """Make `num_envs` games of a name of lbforaging.

    Args:
        name: `Foraging[-{sight}s]-{size}x{size}-{players}p-{food}f[-coop][-ind][-pen]-v3`, registered or not.
        num_envs: E.
        device: device of all tensors.
        options: arguments of `ForagingRules`, in place of the name's.

    Raises:
        UserError: the name or an option is unknown, or a value is invalid.
    """
    return Foraging(num_envs, rules_of(name, options), device)


def names(_family: str) -> list[str]:
    """Return the names that lbforaging registers; `make` builds further names of the same form."""
    return registered_names()

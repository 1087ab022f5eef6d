"""The warehouse with ties and requests as in rware itself: each step equals the package's, on a CPU."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mappo.envs.batched.tensor_game import Tensors
from mappo.envs.batched.warehouse import Warehouse
from mappo.envs.batched.warehouse_layout import FORWARD, NOOP
from mappo.envs.batched.warehouse_moves import Contest
from mappo.envs.batched.warehouse_rules import WarehouseRules
from mappo.envs.names import require
from mappo.errors import UserError
from mappo.system.packages import install_command

_WORDS = 6  # int64 words of a generator: state and increment of 128 bits each, and a half word kept for later
_WORD = 2**64


class PackageWarehouse(Warehouse):
    """E warehouses on a CPU that follow rware at every step.

    An environment of the package moves the robots of each tie. New requests are drawn by numpy's generators, which
    belong to the state.

    Args:
        num_envs, rules, device: see `Warehouse`.

    Raises:
        UserError: rware is missing, or the device is no CPU.
    """

    def __init__(self, num_envs: int, rules: WarehouseRules, device: torch.device | str = "cpu") -> None:
        if torch.device(device).type != "cpu":
            raise UserError("warehouse: ties=package asks rware, on a CPU: use run.device cpu, or ties=order")
        package = require("rware.warehouse", "rware", install_command("rware"))
        self._package = package
        self._original = package.Warehouse(
            rules.shelf_columns,
            rules.column_height,
            rules.shelf_rows,
            rules.n_agents,
            msg_bits=0,
            sensor_range=1,
            request_queue_size=1,
            max_inactivity_steps=None,
            max_steps=None,
            reward_type=package.RewardType.INDIVIDUAL,
        )
        self._original.reset(seed=0)
        super().__init__(num_envs, rules, device)

    def _start_from(self, generator: np.random.Generator) -> Tensors:
        return {**super()._start_from(generator), "generator_state": _to_words(generator)}

    def _begin_episodes(self) -> Tensors:
        state = self._randint(2**63 - 1, _WORDS)
        state[:, 4:] = 0
        return {**super()._begin_episodes(), "generator_state": state}

    def _decide(self, tensors: Tensors, ahead: Tensor, found: Contest) -> Tensor:
        moves = super()._decide(tensors, ahead, found)
        for index in _to_list(found.has_tie().nonzero().flatten()):
            moves[:, index] = self._ask({name: x[index] for name, x in tensors.items()}, found.wants[:, index])
        return moves

    def _ask(self, state: Tensors, wants: Tensor) -> Tensor:
        """Move the robots of an environment by the package.

        Args:
            state: tensors of the environment.
            wants: True for a robot on its way to another cell, bool `(A,)`.

        Returns:
            True for each robot in a new cell: bool `(A,)`.
        """
        original = self._original
        self._set_shelves(state["shelves"].numpy())
        places = list(zip(*self.layout.rows_and_columns(state["cell"].numpy()), strict=True))
        robots = zip(original.agents, places, _to_list(state["direction"]), _to_list(state["load"]), strict=True)
        for agent, (y, x), direction, is_loaded in robots:
            agent.x = x
            agent.y = y
            agent.dir = self._package.Direction(direction)
            agent.carrying_shelf = original.shelfs[original.grid[1, y, x] - 1] if is_loaded else None
            original.grid[0, y, x] = agent.id
        original.step(torch.where(wants, FORWARD, NOOP).tolist())
        moves = [(agent.y, agent.x) != place for agent, place in zip(original.agents, places, strict=True)]
        return torch.tensor(moves)

    def _set_shelves(self, codes: np.ndarray) -> None:
        """Clear the package's floor and place its shelves by the codes of the cells, int16 `(P,)`."""
        original = self._original
        original.request_queue = []  # no deliveries
        original.grid[:] = 0
        cells = codes.nonzero()[0]
        for code, y, x in zip(codes[cells], *self.layout.rows_and_columns(cells), strict=True):
            shelf = original.shelfs[code // 2 - 1]
            shelf.x = x
            shelf.y = y
            original.grid[1, y, x] = shelf.id

    def _draw_request(self, after: Tensors, is_delivery: Tensor) -> Tensor:
        states = after.setdefault("generator_state", self._tensors["generator_state"].clone())
        chosen = torch.zeros(self.num_envs, 1, dtype=torch.long)
        for index in _to_list(is_delivery.nonzero().flatten()):
            codes = after["shelves"][index]
            candidates = codes[(codes > 0) & (codes & 1 == 0)].sort().values  # rware lists shelves by their ids
            generator = _from_words(states[index])
            chosen[index] = (codes == candidates[generator.choice(len(candidates))]).nonzero()
            states[index] = _to_words(generator)
        return chosen


def _to_list(x: Tensor) -> list[int]:
    return cast("list[int]", x.tolist())


def _to_words(generator: np.random.Generator) -> Tensor:
    """Return the state of a generator of numpy: int64 `(6,)`."""
    state: Any = generator.bit_generator.state
    halves = [divmod(state["state"][name], _WORD) for name in ("state", "inc")]
    words = [*halves[0], *halves[1], state["has_uint32"], state["uinteger"]]
    return torch.as_tensor(np.array(words, dtype=np.uint64).view(np.int64))


def _from_words(words: Tensor) -> np.random.Generator:
    """Return a generator of numpy from its state: int64 `(6,)`."""
    halves: list[int] = words.numpy().view(np.uint64).tolist()
    # An increment is odd.
    state = {"state": halves[0] * _WORD + halves[1], "inc": (halves[2] * _WORD + halves[3]) | 1}
    bits = np.random.PCG64()
    rest = {"has_uint32": halves[4], "uinteger": halves[5]}
    bits.state = cast(Any, {"bit_generator": "PCG64", "state": state, **rest})
    return np.random.Generator(bits)

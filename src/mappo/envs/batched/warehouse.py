"""The multi-robot warehouse (package rware 2.0.0), batched in torch: robots bring requested shelves to the goals.

The game computes the same numbers as rware, step for step (law 9), save for its ties. A tie is an empty cell that
several robots with equally long chains behind them want. rware leaves it to the order of networkx; here the first robot
in order wins. With `ties=package` rware itself decides, and draws new requests as rware does.
`docs/environments.md` says how often the two rules differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import TensorGame, Tensors, spec_of
from mappo.envs.batched.warehouse_layout import FORWARD, NUM_ACTIONS, TOGGLE, Layout
from mappo.envs.batched.warehouse_moves import Contest, contest, decide_moves
from mappo.envs.batched.warehouse_rules import EXAMPLES, WarehouseRules, read_name, registered_names
from mappo.envs.batched.warehouse_starts import sample_distinct, start_of_package
from mappo.envs.names import check_options, unknown
from mappo.errors import UserError


def names(_family: str) -> list[str]:
    """Return the names that rware registers; `make` builds further names of the same form."""
    return registered_names()


def make(name: str, num_envs: int, device: torch.device | str, options: Mapping[str, Any]) -> "Warehouse":
    """Build E warehouses.

    Args:
        name: `rware-{tiny|small|medium|large}-{robots}ag[-easy|-hard]-v2`, or any other name without images that rware
            can register.
        num_envs: E.
        device: device of all tensors.
        options: arguments of `WarehouseRules`, in place of the name's.

    Raises:
        UserError: the name or an option is unknown, or a value is invalid.
    """
    settings = read_name(name)
    if settings is None:
        raise unknown("warehouse", name, registered_names(), ", ".join(f"warehouse/{x}" for x in EXAMPLES))
    if "observation_type" in settings:
        raise UserError(f"warehouse/{name}: images are observed in the package alone: use rware/{name}")
    check_options(f"warehouse/{name}", options, [field.name for field in fields(WarehouseRules)])
    rules = WarehouseRules(**{**settings, **options})
    if rules.ties == "order":
        return Warehouse(num_envs, rules, device)
    from mappo.envs.batched.warehouse_package import PackageWarehouse

    return PackageWarehouse(num_envs, rules, device)


class Warehouse(TensorGame):
    """E warehouses on CPU or GPU, an `Environment`, `Resumable` and `Renderable`.

    Actions are 0 stay, 1 forward, 2 turn left, 3 turn right, and 4 pick a shelf up or put it down; with `msg_bits` a
    robot sends that many bits beside its action. A robot observes x, y, load, direction (one-hot: up, down, left,
    right) and highway, then for each cell in sight, row by row, the robot there, its direction and its message, the
    shelf and its request. A seed gives the same episode as rware's `reset(seed=...)`.

    An episode never ends by itself: `max_steps` or `max_inactivity_steps` truncate it.

    Args:
        num_envs: E.
        rules: see `WarehouseRules`.
        device: device of all tensors.

    Raises:
        UserError: `num_envs` is less than 1.
    """

    name = "warehouse"

    def __init__(self, num_envs: int, rules: WarehouseRules, device: torch.device | str = "cpu") -> None:
        self.rules = rules
        self.layout = Layout(rules, device)
        view = len(self.layout.view)
        obs_space = spaces.Box(-np.inf, np.inf, (8 + view * self.layout.sights.shape[1],), np.float32)
        heads = ActionHeads((NUM_ACTIONS, *(2,) * rules.msg_bits))
        self._bits = 2 ** torch.arange(rules.msg_bits, device=device)
        self._num_candidates = len(self.layout.shelf_cells) - rules.request_queue_size
        self._share = 0.5 if rules.reward_type == "two_stage" else 1.0
        spec = spec_of(
            [obs_space] * rules.n_agents, [heads] * rules.n_agents, shared_reward=rules.reward_type == "global"
        )
        super().__init__(num_envs, spec, rules.max_steps, device)

    def render(self, index: int) -> np.ndarray:
        """Render warehouse `index`, uint8 `(H, W, 3)`."""
        from mappo.envs.batched.warehouse_picture import render_warehouse

        return render_warehouse(self, index)

    def _start_from_seeds(self, seeds: Sequence[int]) -> Tensors:
        starts = [self._start_from(np.random.default_rng(seed)) for seed in seeds]
        return {key: torch.stack([start[key] for start in starts]) for key in starts[0]}

    def _start_from(self, generator: np.random.Generator) -> Tensors:
        """Sample the start of an episode as rware does, without an axis for the environments."""
        return start_of_package(self.layout, self.rules, generator)

    def _begin_episodes(self) -> Tensors:
        layout = self.layout
        num_robots = self.rules.n_agents
        requests = self._rand(self.rules.request_queue_size)
        requested = layout.shelf_cells[sample_distinct(requests, len(layout.shelf_cells))]
        nothing = torch.zeros(self.num_envs, num_robots, dtype=torch.long, device=self.device)
        return {
            "cell": layout.cells[sample_distinct(self._rand(num_robots), len(layout.cells))],
            "direction": self._randint(4, num_robots),
            "load": nothing,
            "message": nothing,
            "has_delivered": nothing,
            "shelves": layout.start.expand(self.num_envs, -1).scatter(1, requested, layout.start[requested] + 1),
            "inactive": nothing[:, 0],
            "deliveries": nothing[:, 0],
            "pay": nothing.float(),
        }

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        choice = action[..., 0]
        cell, direction, load, shelves = (tensors[key] for key in ("cell", "direction", "load", "shelves"))
        target = self._move(tensors, choice)
        here = shelves.gather(1, cell)
        puts_down = (choice == TOGGLE) & (load > 0) & ~self.layout.is_highway[cell]
        picks_up = (choice == TOGGLE) & (load == 0) & (here > 0)
        carried = load * (target != cell)
        # Shelves leave their cells before any shelf arrives: a chain of robots moves at once.
        shelves = shelves.scatter(1, cell * carried, 0)
        shelves.scatter_(1, target * carried, here * carried.short())
        has_delivered = tensors["has_delivered"]
        after = {
            "cell": target,
            "direction": self.layout.turned[choice * 4 + direction],
            "load": load + picks_up.long() - puts_down.long(),
            "message": (action[..., 1:] * self._bits).sum(-1),
            "has_delivered": has_delivered * ~puts_down,
            "shelves": shelves,
            "inactive": tensors["inactive"] + 1,
            "deliveries": tensors["deliveries"],
            "pay": 0.5 * (has_delivered * puts_down),
        }
        for goal in self.layout.goals:
            self._deliver_(after, goal)
        return after

    def _move(self, tensors: Tensors, choice: Tensor) -> Tensor:
        """Return the cells of the robots after their moves, `(E, A)`."""
        cell, load, shelves = (tensors[key] for key in ("cell", "load", "shelves"))
        ahead = self.layout.ahead[tensors["direction"] * len(self.layout.start) + cell]
        # A loaded robot stops before a shelf, unless a robot carries that shelf.
        is_blocked = (load * shelves.gather(1, ahead)).t() > 0
        cell_t, ahead_t, load_t = (x.t().contiguous() for x in (cell, ahead, load))  # the environments last
        is_carried = ((ahead_t.unsqueeze(1) == cell_t) & (load_t > 0)).any(1)
        wants = (choice.t() == FORWARD) & (ahead_t != cell_t) & (~is_blocked | is_carried)
        moves = self._decide(tensors, ahead, contest(cell_t, ahead_t, wants))
        return torch.where(moves.t(), ahead, cell)

    def _decide(self, tensors: Tensors, ahead: Tensor, found: Contest) -> Tensor:
        """Return the robots that move to the cells `ahead`: bool `(A, E)`."""
        return decide_moves(found)

    def _deliver_(self, after: Tensors, goal: int) -> None:
        """Pay for a requested shelf at a goal, and request another shelf in its place; changes `after`."""
        shelves = after["shelves"]
        is_delivery = shelves[:, goal] & 1
        chosen = self._draw_request(after, is_delivery)
        shelves[:, goal] -= is_delivery
        shelves.scatter_(1, chosen, shelves.gather(1, chosen) + is_delivery.unsqueeze(1))
        is_deliverer = (after["cell"] == goal) * is_delivery.unsqueeze(1)
        is_paid = is_delivery.unsqueeze(1) if self.rules.reward_type == "global" else is_deliverer
        after["pay"] = after["pay"] + self._share * is_paid
        if self.rules.reward_type == "two_stage":
            after["has_delivered"] = after["has_delivered"] | is_deliverer
        after["inactive"] = after["inactive"] * (1 - is_delivery)
        after["deliveries"] = after["deliveries"] + is_delivery

    def _draw_request(self, after: Tensors, is_delivery: Tensor) -> Tensor:
        """Return the cell of a shelf without a request for each environment, `(E, 1)`; 0 without a delivery."""
        rank = self._randint(self._num_candidates)
        # Deliveries are rare: a CPU looks at their environments alone. A graph of a GPU has fixed shapes.
        rows = is_delivery.nonzero().squeeze(1) if self.device.type == "cpu" else slice(None)
        shelves = after["shelves"][rows]
        is_candidate = (shelves > 0) & (shelves & 1 == 0)
        chosen = torch.zeros(self.num_envs, 1, dtype=torch.long, device=self.device)
        chosen[rows] = (is_candidate.cumsum(1, dtype=torch.int32) <= rank[rows].unsqueeze(1)).sum(1, keepdim=True)
        return chosen * is_delivery.unsqueeze(1)

    def _restart(self, after: Tensors, ended: Tensor) -> Tensors:
        # A graph of a GPU samples at every step. A CPU saves time, and samples only where an episode of a seed ended.
        if self.device.type != "cpu":
            return super()._restart(after, ended)
        if not ended.any():
            return after
        idle = [g for seed, g in enumerate(self.generators) if not ended[self.seed_slice(seed)].any()]
        states = [generator.get_state() for generator in idle]
        now = super()._restart(after, ended)
        for generator, state in zip(idle, states, strict=True):
            generator.set_state(state)
        return now

    def _masked_reward(self, tensors: Tensors, action: Tensor, after: Tensors) -> Tensor:
        return after["pay"]

    def _is_late(self, after: Tensors) -> Tensor:
        limit = self.rules.max_inactivity_steps
        is_late = super()._is_late(after)
        return is_late if limit is None else is_late | (after["inactive"] >= limit)

    def _obs(self, tensors: Tensors) -> Tensor:
        layout = self.layout
        cell, direction = tensors["cell"], tensors["direction"]
        robots = torch.zeros_like(tensors["shelves"])
        robots.scatter_(1, cell, (1 + direction + 4 * tensors["message"]).short())
        view = (cell.unsqueeze(-1) + layout.view).flatten(1)
        shelf = tensors["shelves"].gather(1, view)
        sight = 3 * robots.gather(1, view) + (shelf > 0) + (shelf & 1)
        sights = layout.sights.index_select(0, sight.flatten().int()).view(*cell.shape, -1)
        itself = layout.itself[(cell * 4 + direction) * 2 + tensors["load"]]
        return torch.cat([itself, sights], -1)

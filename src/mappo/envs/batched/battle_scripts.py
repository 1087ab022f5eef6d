"""Who plays `battle` by a script: its enemies, and the baselines that a team is measured by."""

import math
from typing import Any

import torch
from torch import Tensor

STEP, RANGE = 0.125, 0.5
HEALTH = 8  # attacks that a unit dies of
NO_OP, STOP, ATTACK = 0, 1, 6  # the four moves, left, right, down, up, stand between


def baselines(_num_agents: int) -> dict[str, Any]:
    """What a team is measured by."""
    return {"attack nearest": attack_nearest, "focus fire": focus_fire}


def vector_length(x: Tensor) -> Tensor:
    """Of vectors `(*B, 2)`."""
    return torch.linalg.vector_norm(x, dim=-1)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _toward(way: Tensor) -> Tensor:
    """The move along the larger entry of ways `(*B, 2)`: 2 left, 3 right, 4 down, 5 up."""
    axis = way.abs().argmax(-1)
    return 2 + 2 * axis + (way.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0)


def _pick(ways: Tensor, index: Tensor) -> Tensor:
    """Of ways `(*B, N, 2)` the one called `index`, `(*B)`: `(*B, 2)`."""
    return ways.gather(-2, index[..., None, None].expand(*index.shape, 1, 2)).squeeze(-2)


def aim_at_nearest(ways: Tensor, there: Tensor) -> Tensor:
    """Attacks the nearest of those `there`, `(*B, N)`, by ways `(*B, N, 2)`; walks to it if it is out of range."""
    apart = torch.where(there, vector_length(ways), math.inf)
    nearest = apart.argmin(-1)
    return torch.where(apart.amin(-1) <= RANGE, ATTACK + nearest, _toward(_pick(ways, nearest)))


def _read(obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of observations `(E, A, 6 N)`: the own `(E, A, 3)`, the other agents' `(E, A, N - 1, 3)`, the enemies'."""
    half = obs.shape[-1] // 2
    others, enemies = (x.reshape(*obs.shape[:2], -1, 3) for x in (obs[..., 3:half], obs[..., half:]))
    return obs[..., :3], others, enemies


def attack_nearest(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """A baseline that thinks of nobody else: attacks the nearest enemy in range, or walks to the nearest in sight.

    It walks to the middle of the square as long as none is in sight.

    Args:
        obs: `(E, A, 6 N)`. memory: handed back.

    Returns:
        Actions `(E, A, 1)`, and the memory.
    """
    own, _others, enemies = _read(obs)
    there = enemies[..., 0] > 0
    choice = torch.where(there.any(-1), aim_at_nearest(enemies[..., 1:], there), _toward(-own[..., 1:]))
    return torch.where(own[..., 0] > 0, choice, NO_OP).unsqueeze(-1), memory


def focus_fire(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """A baseline that fights together. Each agent uses its own observation only.

    The agents in sight of each other gather, and wait there; once an enemy is about to have one of them in range,
    they walk to one enemy and attack it: the one that is nearest to them in the mean, where a point of health
    counts as 0.0625 of distance. Who cannot reach it attacks the weakest in range.

    Args:
        obs: `(E, A, 6 N)`. memory: handed back.

    Returns:
        Actions `(E, A, 1)`, and the memory.
    """
    own, others, enemies = _read(obs)
    team = torch.cat([torch.zeros_like(own).unsqueeze(-2), others], -2)
    member = torch.cat([own[..., :1] > 0, others[..., 0] > 0], -1).float()
    count = member.sum(-1, keepdim=True).clamp_min(1)
    there, health, ways = enemies[..., 0] > 0, enemies[..., 0] * HEALTH, enemies[..., 1:]
    apart = vector_length(
        ways.unsqueeze(-3) - team[..., 1:].unsqueeze(-2)
    )  # (E, A, N, N): of the team, from the enemies
    apart = torch.where(there.unsqueeze(-2), apart, math.inf)
    danger = (torch.where(member.unsqueeze(-1) > 0, apart, math.inf) <= RANGE + 1.5 * STEP).flatten(-2).any(-1)
    mean = torch.where(member.unsqueeze(-1) > 0, apart, 0.0).sum(-2) / count
    target = (mean + 0.0625 * health).argmin(-1)
    near = apart[..., 0, :] <= RANGE
    weakest = torch.where(near, health + apart[..., 0, :], math.inf).argmin(-1)
    reach = near.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    attack = torch.where(near.any(-1), ATTACK + torch.where(reach, target, weakest), _toward(_pick(ways, target)))
    middle = (team[..., 1:] * member.unsqueeze(-1)).sum(-2) / count
    gather = torch.where(middle.abs().amax(-1) > STEP / 2, _toward(middle), STOP)
    return torch.where(own[..., 0] > 0, torch.where(danger, attack, gather), NO_OP).unsqueeze(-1), memory

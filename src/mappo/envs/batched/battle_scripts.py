"""Scripted policies of `battle`: the enemies' script, and the baselines for comparison."""

import math
from typing import Any

import torch
from torch import Tensor

from mappo.core.spec import Spec
from mappo.envs.batched.base import move_along_larger_axis, vector_length

STEP = 0.125
RANGE = 0.5
HEALTH = 8  # attacks until a unit dies
# Numbers of the actions; the four moves, left, right, down, up, stand between STOP and ATTACK.
NO_OP = 0
STOP = 1
ATTACK = 6


def baselines(_spec: Spec) -> dict[str, Any]:
    """Return the scripted policies for comparison."""
    return {"attack nearest": attack_nearest, "focus fire": focus_fire}


def _walk(way: Tensor) -> Tensor:
    """Return the move along the larger entry of ways `(*B, 2)`: 2 left, 3 right, 4 down, 5 up."""
    return STOP + move_along_larger_axis(way)


def _pick(ways: Tensor, index: Tensor) -> Tensor:
    """Return entry `index` of the ways: `(*B, N, 2)`, `(*B)` -> `(*B, 2)`."""
    return ways.gather(-2, index[..., None, None].expand(*index.shape, 1, 2)).squeeze(-2)


def aim_at_nearest(ways: Tensor, is_target: Tensor) -> Tensor:
    """Attack the nearest target, or walk to it if it is out of range.

    Args:
        ways: ways to the units, `(*B, N, 2)`.
        is_target: units to be attacked, bool `(*B, N)`.

    Returns:
        Actions `(*B)`.
    """
    apart = torch.where(is_target, vector_length(ways), math.inf)
    nearest = apart.argmin(-1)
    return torch.where(apart.amin(-1) <= RANGE, ATTACK + nearest, _walk(_pick(ways, nearest)))


def _split_obs(obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split observations `(E, A, 6 N)` into the agent's own values, the other agents' and the enemies'.

    Returns:
        Own values `(E, A, 3)`, other agents `(E, A, N - 1, 3)` and enemies `(E, A, N, 3)`.
    """
    half = obs.shape[-1] // 2
    others, enemies = (x.reshape(*obs.shape[:2], -1, 3) for x in (obs[..., 3:half], obs[..., half:]))
    return obs[..., :3], others, enemies


def attack_nearest(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as a baseline without teamwork: attack the nearest enemy in range, or walk to the nearest in sight.

    Agents without an enemy in sight walk to the middle of the square.

    Args:
        obs: `(E, A, 6 N)`.
        memory: returned unchanged.

    Returns:
        Actions `(E, A, 1)`, and the memory.
    """
    self_obs, _others, enemies = _split_obs(obs)
    in_sight = enemies[..., 0] > 0
    choice = torch.where(in_sight.any(-1), aim_at_nearest(enemies[..., 1:], in_sight), _walk(-self_obs[..., 1:]))
    return torch.where(self_obs[..., 0] > 0, choice, NO_OP).unsqueeze(-1), memory


def focus_fire(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
    """Act as a baseline with teamwork. Each agent uses its own observation only.

    Agents in sight of each other gather and wait. Once an enemy is about to have an agent in range, they walk to one
    enemy and attack it: the nearest to them on average, where a point of health counts as 0.0625 of distance. An agent
    out of reach of that enemy attacks the weakest enemy in range.

    Args:
        obs: `(E, A, 6 N)`.
        memory: returned unchanged.

    Returns:
        Actions `(E, A, 1)`, and the memory.
    """
    self_obs, others, enemies = _split_obs(obs)
    team = torch.cat([torch.zeros_like(self_obs).unsqueeze(-2), others], -2)  # (E, A, N, 3), the agent itself first
    member = torch.cat([self_obs[..., :1] > 0, others[..., 0] > 0], -1).float()
    count = member.sum(-1, keepdim=True).clamp_min(1)
    health = enemies[..., 0] * HEALTH
    ways = enemies[..., 1:]
    apart = vector_length(ways.unsqueeze(-3) - team[..., 1:].unsqueeze(-2))  # (E, A, N, N): from members to enemies
    apart = torch.where((enemies[..., 0] > 0).unsqueeze(-2), apart, math.inf)
    # Danger begins 1.5 steps outside the enemies' range: an enemy there is about to have the member in range.
    danger = (torch.where(member.unsqueeze(-1) > 0, apart, math.inf) <= RANGE + 1.5 * STEP).flatten(-2).any(-1)
    mean = torch.where(member.unsqueeze(-1) > 0, apart, 0.0).sum(-2) / count
    target = (mean + 0.0625 * health).argmin(-1)
    near = apart[..., 0, :] <= RANGE
    weakest = torch.where(near, health + apart[..., 0, :], math.inf).argmin(-1)
    reach = near.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    attack = torch.where(near.any(-1), ATTACK + torch.where(reach, target, weakest), _walk(_pick(ways, target)))
    middle = (team[..., 1:] * member.unsqueeze(-1)).sum(-2) / count
    gather = torch.where(middle.abs().amax(-1) > STEP / 2, _walk(middle), STOP)
    return torch.where(self_obs[..., 0] > 0, torch.where(danger, attack, gather), NO_OP).unsqueeze(-1), memory

"""Steering of the particle worlds' scripted policies: one move at a time, or continuous forces along both axes."""

import torch
from torch import Tensor

from mappo.envs.batched.base import move_along_larger_axis

# Of `push`: full force from a distance of 0.1 on, and a brake. Spread's planner returns -17.5 over 2,000 episodes; with
# gain 5 -18.6, with brake 0.15 -19.3, with brake 0.25 -17.8.
GAIN = 10.0
BRAKE = 0.2


def steer(error: Tensor, deadband: float) -> Tensor:
    """Return the move along the larger entry of `error`, or 0 (stay) if the entry is under `deadband`.

    Args:
        error: way to the target less a multiple of the velocity, `(*B, 2)`.
        deadband: distance below which an agent stays.

    Returns:
        Moves `(*B)`, indices of `MOVES`.
    """
    return torch.where(error.abs().amax(-1) < deadband, 0, move_along_larger_axis(error))


def push(way: Tensor, velocity: Tensor) -> Tensor:
    """Return the force towards a target as numbers of a continuous move.

    Args:
        way: way to the target, `(*B, 2)`.
        velocity: `(*B, 2)`.

    Returns:
        Numbers from 0 to 1, `(*B, 5)`: 0, then the force left, right, down and up.
    """
    force = (GAIN * (way - BRAKE * velocity)).clamp(-1, 1)
    one_way = torch.stack([-force, force], -1).clamp_min(0).flatten(-2)  # (*B, 4)
    return torch.cat([torch.zeros_like(one_way[..., :1]), one_way], -1)


def way_to_named_landmark(ways: Tensor, message: Tensor) -> Tensor:
    """Return the way of listeners to their goal; word i names landmark i.

    Observations list the landmarks in a fixed order with fixed colours: an index names a landmark. Before the first
    message, at the first step of an episode, the listener walks to the middle of the landmarks.

    Args:
        ways: ways to the landmarks, `(*B, L, 2)`.
        message: one-hot word of the last step, zeros before the first, `(*B, W)` with W >= L.

    Returns:
        `(*B, 2)`.
    """
    num_landmarks = ways.shape[-2]
    weight = torch.where(message.any(-1, keepdim=True), message[..., :num_landmarks], 1 / num_landmarks)
    return (weight.unsqueeze(-1) * ways).sum(-2)


def walk(way: Tensor, velocity: Tensor) -> Tensor:
    """Return the moves `(*B)` of listeners: along the larger entry of `way - 0.2 * velocity`, or stay under 0.03."""
    return steer(way - 0.2 * velocity, 0.03)

"""Rules for robots that move at once: chains follow their first robot, and rings turn.

A robot enters an empty cell, or the cell of a moving robot. Several robots may have the same target: the robot with
the longest chain of robots behind it wins, as in rware. Between equally long chains rware leaves the choice to
networkx; here the first robot in order wins. Four or more robots in a ring all move. Two robots never change places.
Robots behind a standing robot stand too.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Contest(NamedTuple):
    """Robots in each other's way, with the environments last.

    Args:
        wants: True for a robot on its way to another cell, bool `(A, E)`.
        leader: number of the robot in the wanted cell, or of the robot itself, int64 `(A, E)`.
        follows: True for a robot with a leader, bool `(A, E)`.
        rivals: `[i, k]` is True if robots i and k want the same cell, or are the same robot, bool `(A, A, E)`.
        chain: number of robots in the longest chain up to and with each robot, `(A, E)`.
    """

    wants: Tensor
    leader: Tensor
    follows: Tensor
    rivals: Tensor
    chain: Tensor

    def has_tie(self) -> Tensor:
        """Return the environments with rivals of equally long chains: bool `(E,)`."""
        num_equal = (self.rivals & (self.chain == self.chain.unsqueeze(1))).sum(1)
        return (num_equal > 1).any(0)


def contest(cell: Tensor, ahead: Tensor, wants: Tensor) -> Contest:
    """Find the robots in each other's way.

    Args:
        cell: cells of the robots, `(A, E)`.
        ahead: cells ahead of the robots, `(A, E)`.
        wants: True for a robot on its way to another cell, bool `(A, E)`.
    """
    num_robots = len(cell)
    robots = torch.arange(num_robots, device=cell.device).unsqueeze(1)
    enters = wants.unsqueeze(1) & (ahead.unsqueeze(1) == cell)  # (A, A, E): [i, k] if i wants the cell of k
    follows = enters.any(1)
    leader = torch.where(follows, (enters * robots).sum(1), robots)
    rivals = wants.unsqueeze(1) & wants & (ahead.unsqueeze(1) == ahead)
    alone = torch.ones_like(cell)
    chain = alone
    for _ in range(num_robots - 1):
        chain = alone.scatter_reduce(0, leader, torch.where(follows, chain + 1, 1), "amax")
    return Contest(wants, leader, follows, rivals, chain)


def decide_moves(found: Contest) -> Tensor:
    """Return the robots that move: bool `(A, E)`."""
    num_robots = len(found.wants)
    robots = torch.arange(num_robots, device=found.wants.device).unsqueeze(1)
    rank = found.chain * num_robots - robots
    wins = found.wants & ~(found.rivals & (rank > rank.unsqueeze(1))).any(1)
    moves = wins & ~found.follows
    for _ in range(num_robots - 1):
        moves = wins & (~found.follows | moves.gather(0, found.leader))
    # A ring of moves from cell to cell has an even length, and two robots do not change places.
    return moves | _in_ring(found.leader, robots) if num_robots >= 4 else moves


def _in_ring(leader: Tensor, robots: Tensor) -> Tensor:
    """Return the robots in rings of at least four: bool `(A, E)`."""
    last = leader
    for _ in range(len(leader).bit_length()):
        last = last.gather(0, last)  # twice as far along the chain
    is_last = (last.unsqueeze(1) == robots).any(0)  # after A steps a chain has reached its ring, or its first robot
    return is_last & (leader.gather(0, leader) != robots)

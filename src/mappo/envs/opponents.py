"""Opponents in a team, recognised from play: agents paid for the losses of others. Loads no torch.

`mappo check` looks at its random episodes, training at its first rollouts.
"""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_BLOCK = 25  # steps, of an episode, that count as one observation
# The cosine between the changes of two rewards: -1 if each gain of one side is a loss of the other, 0 without relation.
_MAX_COSINE = -0.4
# Sum of the products of all blocks over the root of the sum of their squares, at most -sqrt(blocks). Its chance to be
# below -x without any relation is at most exp(-x^2 / 2), and the cosine must be low by chance too.
_MAX_SUM = -3.5
_MIN_KILLS = 3
_MAX_SIDES = 32  # all pairs of them are compared


class Play(NamedTuple):
    """An episode, or a part of one: rewards `(T, A)`, and bool `(T, A)` for the deaths while others went on."""

    rewards: np.ndarray
    deaths: np.ndarray


def find_opponents(agents: Sequence[str], plays: Sequence[Play]) -> str:
    """Return a text of the sides paid against each other, such as "eve_0 against bob_0, alice_0"; "" for none.

    Two sides are opponents if the changes of their rewards are opposite in almost all of the play; if they are paid at
    the last step of an episode alone, one of them usually more and the other less; or if one side has its highest
    rewards at the deaths of the other, and the dead have none.
    Sides are agents with names alike but for the number, such as red_0 and red_1; or single agents.

    Args:
        agents: names of the A agents.
        plays: the play, of a random policy.
    """
    stems = [re.sub(r"[\W_]*\d+\W*$", "", agent) for agent in agents]
    kinds = list(dict.fromkeys(stems))
    for names, sides in ((stems, kinds), (agents, agents)):
        if not 1 < len(sides) <= _MAX_SIDES:
            continue
        members = np.array([[name == side for name in names] for side in sides])  # (sides, A)
        with np.errstate(all="ignore"):  # rewards may be huge or not finite: nothing is found then
            pairs = [pair for pair in itertools.combinations(members, 2) if _are_opposed(*pair, plays)]
        if pairs:
            return _describe(agents, pairs)
    return ""


def _are_opposed(first: np.ndarray, second: np.ndarray, plays: Sequence[Play]) -> bool:
    sides = np.stack([first, second], 1).astype(float)  # (A, 2)
    rewards = [play.rewards @ sides for play in plays]  # (T, 2)
    if not any(reward[:-1].any() for reward in rewards):  # paid at the end alone: episodes are compared
        rewards = [reward[-1:] for reward in rewards]
    usual = np.concatenate(rewards).mean(0)  # (2,)
    # Changes, for rewards such as distances drift: the levels of a few episodes are alike or opposite by chance.
    changes = [np.diff(reward, axis=0) if len(reward) > 1 else reward - usual for reward in rewards]
    blocks = [block for change in changes for block in np.array_split(change, -(-len(change) // _BLOCK))]
    sums = np.array([block.prod(1).sum() for block in blocks])
    scale = float(np.linalg.norm(np.concatenate(changes), axis=0).prod())
    is_opposite = sums.sum() < _MAX_COSINE * scale and sums.sum() < _MAX_SUM * np.sqrt(np.square(sums).sum())
    return bool(is_opposite) or _kills(first, second, plays) or _kills(second, first, plays)


def _kills(side: np.ndarray, other: np.ndarray, plays: Sequence[Play]) -> bool:
    """Return True if members of `side` have their highest rewards at deaths of `other`, and the dead have none."""
    rewards = np.concatenate([play.rewards for play in plays])  # (T of all plays, A)
    died = np.concatenate([play.deaths & other for play in plays])
    is_kill = died.any(1) & (np.where(died, rewards, -np.inf).max(1) <= np.median(rewards[:, other]))
    best = rewards[:, side].max(1)
    is_highest = best >= 0.9 * best.max()
    is_rare = max(is_highest.mean(), is_kill.mean()) < 0.2
    return bool(is_rare and is_highest.sum() >= _MIN_KILLS and is_kill[is_highest].mean() > 0.8)


def _describe(agents: Sequence[str], pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """Return the sides of all pairs as text, sides with the same opponents together."""
    against: dict[str, list[str]] = {}
    for first, second in pairs:
        against.setdefault(_names(agents, second), []).append(_names(agents, first))
    merged: dict[str, list[str]] = {}
    for second, sides in against.items():
        merged.setdefault(", ".join(sides), []).append(second)
    return "; ".join(f"{first} against {', '.join(seconds)}" for first, seconds in merged.items())


def _names(agents: Sequence[str], side: np.ndarray) -> str:
    members = list(itertools.compress(agents, side))
    return ", ".join(members) if len(members) < 4 else f"{members[0]} to {members[-1]}"

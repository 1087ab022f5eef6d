"""Checks of names, flags and rewards for `mappo check`, beyond the checks of training. Loads no torch.

The rules themselves are in `envs/vector/rules.py`, the checks of training in `envs/vector/api_checks.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mappo.envs.vector.api_checks import check_flag, check_names, check_reward, short
from mappo.envs.vector.rules import Finding, broken

_MAX_REWARD = 1e18  # the square of a larger number is no float32


def check_agents(possible: Sequence[str], agents: Sequence[str], **dicts: Mapping[str, Any]) -> Iterator[Finding]:
    """Find unknown names in the dicts and in `env.agents`, and agents out of order."""
    known = dict.fromkeys(possible)
    for what, names in {**dicts, "agents": dict.fromkeys(agents)}.items():
        if finding := check_names(what, names, known):
            yield finding
    places = [possible.index(a) for a in agents if a in known]
    if places != sorted(places) and not isinstance(agents, set | frozenset):
        yield broken("agent-order", agents=join(agents), possible=join(possible))


def check_step(
    acting: Sequence[str],
    agents: Sequence[str],
    obs: Mapping[str, Any],
    rewards: Mapping[str, Any],
    terminations: Mapping[str, Any],
    truncations: Mapping[str, Any],
    is_shared: bool,
) -> Iterator[Finding]:
    """Find broken rules in the results of a step.

    Args:
        acting: the agents with an action.
        agents: the agents in `env.agents` after the step.
        obs: observations by agent.
        rewards: rewards by agent.
        terminations: flags by agent.
        truncations: flags by agent.
        is_shared: True if all agents receive the team's reward; then the reward of an agent that acted counts alone.
    """
    yield from _check_rewards(acting, rewards, is_shared)
    over = [a for a in acting if terminations.get(a) or truncations.get(a)]
    has_ended = all(a in over for a in agents)
    is_cut = any(truncations.get(a) and not terminations.get(a) for a in acting)
    for a in acting:
        if a not in rewards:
            yield broken("no-reward", a)
        missing = [name for name, d in (("termination", terminations), ("truncation", truncations)) if a not in d]
        if missing:
            yield broken("no-flags", a, flags=" and no ".join(missing))
        elif a not in agents and a not in over:
            yield broken("not-flagged", a)
        if has_ended and is_cut and not terminations.get(a) and a not in obs:
            yield broken("no-final-observation", a)
        if a in over and a in agents:
            yield broken("not-emptied", a) if has_ended else broken("over-but-listed", a, when="")


def _check_rewards(acting: Sequence[str], rewards: Mapping[str, Any], is_shared: bool) -> Iterator[Finding]:
    """Find rewards that are no numbers, or too large."""
    for a, reward in rewards.items():
        is_unread = reward is None or (is_shared and not isinstance(check_reward(a, reward), Finding))
        if is_unread and a not in acting:
            continue
        if not np.isfinite(number := reward_number(a, reward)):
            yield broken("reward-number", a, reward=short(reward))
        elif abs(number) > _MAX_REWARD:
            yield broken("reward-size", a, reward=number)


def check_flags(acting: Sequence[str], **flags: Mapping[str, Any]) -> Finding | None:
    """Find a termination or a truncation that is no truth value; a missing one is found by `check_step`."""
    values = ((a, what, by_agent.get(a)) for what, by_agent in flags.items() for a in acting)
    findings = (check_flag(a, flag, what) for a, what, flag in values if flag is not None)
    return next((finding for finding in findings if isinstance(finding, Finding)), None)


def check_absent(absent: Sequence[str], is_shared: bool, **dicts: Mapping[str, Any]) -> Iterator[Finding]:
    """Find entries for agents outside the environment, before and after the step.

    Args:
        absent: the names of these agents.
        is_shared: True if all agents receive the team's reward; absent agents may receive it too.
        dicts: results of the step by name, `rewards` among them.
    """
    for a in absent:
        reward = reward_number(a, dicts["rewards"].get(a) or 0)
        if not is_shared and not np.isfinite(reward):  # an error, found by `check_step`
            continue
        if reward != 0 and not is_shared:
            yield broken("reward-after-end", a, reward=reward)
        elif where := [name for name, d in dicts.items() if a in d]:
            yield broken("given-after-end", a, where=join(where))


def reward_number(agent: str, reward: Any) -> float:
    """Return a reward as a number; NaN if it is no number."""
    number = check_reward(agent, reward)
    return float("nan") if isinstance(number, Finding) else number


def join(names: Sequence[Any]) -> str:
    """Return names as a list for a message."""
    return ", ".join(map(str, names))

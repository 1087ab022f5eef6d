"""What `mappo check` asks of an environment: each rule with its level and its mending; who is there, and given what.

An error is refused by mappo, or teaches something wrong. With a warning it trains, and there is something to know.
Loads no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Level = Literal["error", "warning"]

RULES: dict[str, tuple[Level, str]] = {
    # of the whole
    "raised": ("error", "mend the code that these lines name"),
    "unreadable": ("error", "give dicts by agent of arrays, numbers and booleans, as PettingZoo's Parallel API says"),
    "turn-based": ("error", "make it by parallel_env(...) in place of env(...)"),
    "none": ("error", "let the function return the environment that it makes"),
    "missing": ("error", "give it what PettingZoo's ParallelEnv has"),
    "same-object": ("error", "make a new environment at each call"),
    "agents": ("error", "name each agent once in possible_agents"),
    "spaces": (
        "error",
        "give spaces of a fixed size (Box, Discrete, MultiDiscrete, MultiBinary), and images of one shape",
    ),
    "reset-seed": ("error", "let it be reset(self, seed=None, options=None)"),
    "reset-return": ("error", "return observations, infos: two dicts by agent"),
    "step-return": ("error", "return observations, rewards, terminations, truncations, infos: five dicts by agent"),
    "never-ends": ("error", "truncate it after some steps, or give --env.time-limit (of check, --time-limit)"),
    "limit-as-termination": ("warning", "if it is a time limit, report it in truncations, or give --env.time-limit"),
    # who is there
    "nobody": ("error", "let reset fill agents: self.agents = list(self.possible_agents)"),
    "possible-agents-changed": ("error", "let agents be a copy: self.agents = list(self.possible_agents)"),
    "unknown-agent": ("error", "use the names of possible_agents"),
    "agent-order": ("warning", "keep agents in the order of possible_agents"),
    "not-flagged": ("error", "set terminations[agent] or truncations[agent] at the step that takes it off agents"),
    "over-but-listed": ("error", "take who is over off agents at the same step; who stays there begins another life"),
    "not-emptied": ("warning", "empty agents when the episode is over"),
    "given-after-end": ("warning", "leave agents that are over out of the dicts"),
    "reward-after-end": ("error", "pay at the step at which the agent ends: what comes later is not counted"),
    # what an agent gets
    "no-observation": ("error", "give an observation to everyone on agents"),
    "no-final-observation": ("error", "observe once more at the step that truncates: its value is part of the return"),
    "no-reward": ("error", "give a reward to everyone who acted, 0 where there is none"),
    "no-flags": ("error", "give everyone who acted a termination and a truncation, True or False"),
    "reward-number": ("error", "give one finite number"),
    "not-shared": ("error", "give all agents one number, or leave shared_reward out"),
    "obs-space": ("error", "let the observation be what observation_space(agent) says"),
    "obs-shape": ("error", "let the observation have the shape of its space"),
    "obs-kind": ("error", "let the space have the dtype of what is observed: fractions would be lost"),
    "obs-dtype": ("warning", "convert it to the dtype of its space, or let the space have its own"),
    "obs-bounds": ("warning", "widen the bounds of its space, or clip to them"),
    "obs-constant": ("warning", "see that observations are taken after the step, and drawn if they are pictures"),
    "not-finite": ("error", "find what divides by zero or overflows: one such number spoils all weights"),
    "mask-size": ("error", "give one number for each choice of the agent's own action space"),
    "mask-values": ("error", "give 1 or True where a choice is legal and 0 or False elsewhere"),
    "mask-dtype": ("warning", "let the mask be int8 or bool"),
    "mask-empty": ("error", "leave something legal for everyone on agents, such as doing nothing"),
    "mask-late": ("error", "give the mask from the reset on, and at each step"),
    # the state
    "state-shape": ("error", "let state() have one shape, that of state_space, whoever is there"),
    "state-constant": ("error", "compute state() anew at each call, or leave it out"),
    "state-order": ("warning", "put the observations in the order of possible_agents"),
    # what makes runs repeatable
    "seed-reset": ("warning", "draw all chance from self.rng = np.random.default_rng(seed), made in reset"),
    "seed-steps": ("warning", "begin everything anew in reset, and draw all chance from a generator seeded there"),
    "entangled": ("warning", "draw from a generator of its own, not from one of the whole process such as np.random"),
    "aliasing": ("warning", "return copies: self.buffer.copy()"),
    "action-changed": ("warning", "copy an action before writing into it"),
}


@dataclass(frozen=True)
class Finding:
    """A breach of a rule: which, what is so, whose, and a mending that says more than the rule's own."""

    code: str
    message: str
    agent: str = ""
    fix: str = ""


def check_names(possible: Sequence[str], agents: Sequence[str], **given: Mapping[str, Any]) -> Iterator[Finding]:
    """Names that nobody has, and agents out of order."""
    for what, dictionary in {**given, "agents": dict.fromkeys(agents)}.items():
        for stranger in [a for a in dictionary if a not in possible][:1]:
            yield Finding("unknown-agent", f"{what} holds {stranger!r}, who is not in possible_agents", str(stranger))
    places = [possible.index(a) for a in agents if a in possible]
    if places != sorted(places):
        yield Finding("agent-order", f"agents is {_list(agents)}, and possible_agents {_list(possible)}")


def check_step(
    before: Sequence[str],
    now: Sequence[str],
    obs: Mapping[str, Any],
    rewards: Mapping[str, Any],
    ends: Mapping[str, Any],
    cuts: Mapping[str, Any],
) -> Iterator[Finding]:
    """What a step gave to those who acted (`before`), and to those who are there after it (`now`)."""
    over = [a for a in before if ends.get(a) or cuts.get(a)]
    ended = not [a for a in now if a not in over]
    for a in before:
        if a not in rewards:
            yield Finding("no-reward", "it acted and was given no reward", a)
        elif not np.isfinite(reward_number(rewards[a])):
            yield Finding("reward-number", f"its reward is {short(rewards[a])}", a)
        if missing := [what for what, d in (("termination", ends), ("truncation", cuts)) if a not in d]:
            yield Finding("no-flags", f"it acted and was given no {' and no '.join(missing)}", a)
        elif a not in now and a not in over:
            yield Finding("not-flagged", "it is off agents, and neither terminated nor truncated", a)
        if cuts.get(a) and not ends.get(a) and a not in obs:
            yield Finding("no-final-observation", "it was truncated and observed nothing", a)
        if a in over and a in now:
            code = "not-emptied" if ended else "over-but-listed"
            yield Finding(code, f"it is over and still on agents{'' if ended else ', where others go on'}", a)


def check_absent_rewards(others: Sequence[str], shared: bool, **given: Mapping[str, Any]) -> Iterator[Finding]:
    """What a step gave to `others`, who neither acted nor are there after it; a `shared` reward may go to all."""
    for a in others:
        pay = reward_number(given["rewards"].get(a, 0))
        if pay != 0 and not shared:
            yield Finding("reward-after-end", f"it is not there and was given the reward {pay:g}", a)
        elif what := [name for name, dictionary in given.items() if a in dictionary]:
            yield Finding("given-after-end", f"it is not there and has a place in {_list(what)}", a)


def reward_number(reward: Any) -> float:
    """NaN where it is not one number."""
    try:
        return float(np.asarray(reward).item())
    except (TypeError, ValueError):
        return float("nan")


def short(x: Any) -> str:
    """Something given, in a message."""
    text = " ".join(repr(x).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _list(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names))

"""The part of `rules.RULES` for an environment as a whole: its methods, names, spaces and episodes."""

from typing import Literal, NamedTuple

Level = Literal["error", "warning"]


class Rule(NamedTuple):
    """A rule: its level, the message with the facts in braces, and the fix."""

    level: Level
    message: str
    fix: str


API_RULES: dict[str, Rule] = {
    # The environment as a whole
    "raised": Rule("error", "{call} raised {error}", "fix the code in these lines"),
    "close-raised": Rule("warning", "close raised {error}", "fix the code in these lines"),
    "unreadable": Rule(
        "error",
        "a value that the environment returned cannot be read: {error}",
        "return dicts by agent of arrays, numbers and booleans, as in PettingZoo's Parallel API",
    ),
    "turn-based": Rule("error", "the environment is turn-based (AEC)", "use parallel_env(...) in place of env(...)"),
    "none": Rule("error", "the function that makes environments returned None", "return the environment"),
    "missing": Rule(
        "error",
        "this is not an environment of PettingZoo's Parallel API: it has no {names}",
        "add what PettingZoo's ParallelEnv has",
    ),
    "same-object": Rule(
        "error",
        "the function that makes environments returned one {kind} several times",
        "make a new environment at each call",
    ),
    "agents": Rule(
        "error",
        "possible_agents is {agents}: {problem}",
        "name each agent once in possible_agents, by text or by a number",
    ),
    "names-order": Rule(
        "warning",
        "possible_agents is {agents} here, and {others} in another process",
        "make a list of names in a fixed order, such as sorted(names): a set has another order in each process",
    ),
    "names-differ": Rule(
        "error",
        "possible_agents is {agents} here, and {others} in another process",
        "give each agent the same name in every process: a saved run knows its agents by name",
    ),
    "old-gym": Rule(
        "error",
        "{what} of {agent} is {space} of the old package gym",
        "use gymnasium's: `from gymnasium import spaces` in place of `from gym import spaces`",
    ),
    "no-space": Rule(
        "error",
        "{what} of {agent} is {space}, which is no space of gymnasium",
        "return a space, such as gymnasium.spaces.Box or Discrete",
    ),
    "spaces": Rule(
        "error",
        "{error}",
        "use spaces of a fixed size (Box, Discrete, MultiDiscrete, MultiBinary), and images of one shape",
    ),
    "reset-seed": Rule("error", "reset takes no seed: {error}", "declare reset(self, seed=None, options=None)"),
    "reset-return": Rule("error", "reset returned {kinds}", "return observations, infos: two dicts by agent"),
    "step-return": Rule(
        "error",
        "step returned {kinds}",
        "return observations, rewards, terminations, truncations, infos: five dicts by agent",
    ),
    "never-ends": Rule(
        "error",
        "the episode had not ended after {steps:,} steps",
        "truncate the episode after some steps, or use --env.time-limit (in mappo check, --time-limit)",
    ),
    "limit-as-termination": Rule(
        "warning",
        "all {episodes} episodes terminated at step {step}: this looks like a time limit",
        "if it is a time limit, report it in truncations, or give --env.time-limit {step}",
    ),
    # Its state
    "state-arguments": Rule(
        "error", "state{signature} takes arguments", "declare state(self): a single state for the whole team"
    ),
    "state-value": Rule(
        "error",
        "state() is {value}, which is no array of numbers",
        "return an array of one shape at each step, or remove state(); a Dict needs its space as state_space",
    ),
}

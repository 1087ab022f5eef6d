"""Rules for environments of PettingZoo's Parallel API, written once. Loads no torch.

Training raises the first broken rule as a `UserError`; `mappo check` collects all of them. An error is refused by
mappo, or teaches something wrong. With a warning an environment trains, but a user should know of it.
"""

from dataclasses import dataclass
from typing import Any

from mappo.envs.vector.api_rules import API_RULES, Rule
from mappo.errors import UserError

RULES: dict[str, Rule] = {
    **API_RULES,
    # The agents in env.agents
    "nobody": Rule(
        "error",
        "reset left nobody in env.agents: {agents}",
        "fill agents in reset: self.agents = list(self.possible_agents)",
    ),
    "possible-agents-changed": Rule(
        "error",
        "possible_agents has changed to {agents}",
        "make agents a copy: self.agents = list(self.possible_agents)",
    ),
    "unknown-agent": Rule(
        "error",
        "{what} holds {agent!r}, which is not in possible_agents: {possible}",
        "use the names of possible_agents",
    ),
    "agent-order": Rule(
        "warning",
        "env.agents is {agents}, and possible_agents {possible}",
        "keep agents in the order of possible_agents",
    ),
    "not-flagged": Rule(
        "warning",
        "{agent} left env.agents, and neither terminated nor truncated: it counts as terminated",
        "set terminations[agent] or truncations[agent] at the step that removes the agent from agents",
    ),
    "over-but-listed": Rule(
        "warning",
        "{agent} ended{when} and is still in env.agents, while other agents go on",
        "remove an agent from agents at the step at which it ends; an agent that stays begins another life",
    ),
    "not-emptied": Rule(
        "warning", "{agent} ended with the episode and is still in env.agents", "empty agents when the episode is over"
    ),
    "given-after-end": Rule(
        "warning",
        "{agent} is not in env.agents and has an entry in {where}",
        "leave agents out of the dicts after they have ended",
    ),
    "reward-after-end": Rule(
        "warning",
        "{agent} is not in env.agents and received the reward {reward:g}",
        "pay at the step at which the agent ends: a later reward counts for the team, but teaches the agent nothing",
    ),
    # Observations, rewards and flags of an agent
    "large-image": Rule(
        "warning",
        "{agent} observes images of {shape}: an update on them takes minutes and gigabytes",
        "shrink them: supersuit.color_reduction_v0(env, 'full'), then supersuit.resize_v1(env, 84, 84); or a wrapper",
    ),
    "large-state": Rule(
        "warning",
        "state() returns images of {shape}: an update of the critic on them takes minutes and gigabytes",
        "shrink them like observations, or leave the state out by --network.critic-input joint",
    ),
    "no-observation": Rule(
        "error",
        "{agent} is in env.agents and has no observation; observations hold: {names}",
        "return an observation for each agent in agents",
    ),
    "no-final-observation": Rule(
        "error",
        "{agent} was truncated and has no last observation",
        "return an observation at the step that truncates: its value is part of the return",
    ),
    "no-reward": Rule(
        "error", "{agent} acted and received no reward", "return a reward for each agent that acted, 0 for none"
    ),
    "no-flags": Rule(
        "warning",
        "{agent} acted and received no {flags}, which counts as False",
        "return a termination and a truncation for each agent that acted, True or False",
    ),
    "reward-number": Rule(
        "error", "{agent} received the reward {reward}, which is not one finite number", "return one finite number"
    ),
    "flag-value": Rule(
        "error",
        "{agent} has {flag} in {what}, which is neither True nor False",
        "return True or False for each agent that acted",
    ),
    "reward-size": Rule(
        "error", "{agent} received the reward {reward:g}, too large to be squared", "divide rewards by a constant"
    ),
    "not-shared": Rule(
        "warning",
        "shared_reward is True, and the agents received {rewards}: the first reward counts for all",
        "return the same number for all agents, or remove shared_reward",
    ),
    "opponents": Rule(
        "warning",
        "the team holds opponents, as seen in play: {sides}",
        "train with --env.reward agent, so that each agent learns its own reward; or leave only one side in "
        "possible_agents, and play the other inside the environment",
    ),
    "obs-space": Rule(
        "error", "{what} is {value}; its space says {space}", "return observations in observation_space(agent)"
    ),
    "obs-shape": Rule(
        "error", "{what} has shape {shape}; its space says {expected}", "return observations in the shape of the space"
    ),
    "obs-kind": Rule(
        "error",
        "{what} has dtype {dtype}; its space says {expected}",
        "give the space the dtype of the observations: fractions would be lost",
    ),
    "obs-dtype": Rule(
        "warning",
        "{what} has dtype {dtype}; its space says {expected}",
        "convert to the dtype of the space, or change the dtype of the space",
    ),
    "obs-bounds": Rule(
        "warning",
        "{what} holds {value:g}; its space says {low:g} to {high:g}",
        "widen the bounds of the space, or clip to them",
    ),
    "obs-extra": Rule(
        "warning",
        "{what} holds {keys}, which its space does not declare",
        "declare the part in the space, or leave it out: it is not read",
    ),
    "obs-constant": Rule(
        "warning",
        "no observation changes during an episode",
        "observe after the step; render before observing pictures",
    ),
    "not-finite": Rule(
        "error", "{what} holds {value}", "find the division by zero or the overflow: one such number spoils all weights"
    ),
    # Action masks
    "mask-size": Rule(
        "error",
        "{agent} has an action mask of shape {shape}; its actions need {expected}",
        "return one number for each choice of the agent's own action space",
    ),
    "mask-values": Rule(
        "error",
        "{agent} has an action mask that holds {value}",
        "return 1 or True where a choice is legal, and 0 or False elsewhere",
    ),
    "mask-twice": Rule(
        "error",
        "{agent} has one action mask in its observation, and another in its info",
        "return one mask, in the observation or in the info",
    ),
    "mask-dtype": Rule("warning", "{agent} has an action mask of dtype {dtype}", "return an int8 or bool mask"),
    "mask-empty": Rule(
        "error",
        "{agent} has an action mask in which nothing is legal{where}",
        "leave a legal choice for each agent in agents, such as doing nothing",
    ),
    "mask-late": Rule("error", "{agent} has {change}", "return the mask from the reset on, and at each step"),
    "mask-missing": Rule(
        "warning",
        "{agent} has a mask at some steps and none at others, where everything counts as legal",
        "return the mask from the reset on, and at each step",
    ),
    # The state
    "state-shape": Rule(
        "error",
        "state() has shape {shape} in place of {expected}",
        "always return a state of the same shape, the shape of state_space",
    ),
    "state-constant": Rule(
        "warning",
        "state() does not change during an episode, and observations do",
        "compute the state anew at each call, or remove state()",
    ),
    "state-order": Rule(
        "warning",
        "state() holds the observations in the order {order}, but possible_agents is {possible}",
        "use the order of possible_agents, and check that each agent gets its own observation and reward",
    ),
    # Repeatable runs
    "seed-reset": Rule(
        "warning",
        "reset(seed={seed}) on {which} returns other observations than the first time",
        "take all random numbers from self.rng = np.random.default_rng(seed), made in reset",
    ),
    "seed-steps": Rule(
        "warning",
        "the same seed and actions on {which} give other results from step {step} on",
        "reset everything in reset, and take all random numbers from a generator seeded in reset",
    ),
    "entangled": Rule(
        "warning",
        "two environments stepped in turn give other results than each alone, from {moment} on",
        "use a generator for each environment, not a generator of the whole process such as np.random",
    ),
    "aliasing": Rule(
        "warning", "{what} that was returned before has changed since", "return copies: self.buffer.copy()"
    ),
    "action-changed": Rule("warning", "step wrote into the actions it received", "copy an action before changing it"),
}


@dataclass(frozen=True)
class Finding:
    """A broken rule: its code, the message with the facts, the agent if any, and the fix."""

    code: str
    message: str
    agent: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}"


class RuleError(UserError):
    """Error of training for a broken rule.

    Args:
        finding: the broken rule.
        where: the environment, before the message.
    """

    def __init__(self, finding: Finding, where: str = "") -> None:
        super().__init__(f"{where}{finding}")
        self.finding = finding


def broken(code: str, agent: Any = "", **facts: Any) -> Finding:
    """Return the finding for the rule `code`, with the facts filled in."""
    rule = RULES[code]
    name = str(agent)
    return Finding(code, rule.message.format(agent=name, **facts), name, rule.fix.format(**facts))

"""Probes of death, new lives and late arrival; `probes.basic` describes probes in general.

Returns are not discounted.

                  best           chance
probe/death       10 an agent    4      death earns 3 at once: right for a learner without deaths
probe/respawn     18 or 6        12     a sacrifice pays in the next life: right for the team alone
probe/arrival     9              2.25   an agent arrives later, and must remember its first observation
probe/combined    20             7.58   memory, masks, deaths, new lives and unequal agents at once
"""

import torch
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import Tensors, one_hot, spec_of
from mappo.envs.probes.basic import Constant
from mappo.envs.probes.probe import Probe


class Death(Constant):
    """Probe of death: action 0 (stay) earns 1, action 1 (jump) earns 3 and kills the agent.

    The episode ends by itself when no agent is left, else it is truncated after `horizon` steps. Agents observe zeros,
    and the learner reads the dead as zeros too: no critic can tell them apart, and values of the dead must not count.

    For `env.reward=agent` and gamma 0.9: to stay forever is worth 1 / (1 - gamma) = 10, and 1 + 9 is more than 3. A
    learner with values after death expects 3 + 9 from the jump. The return is `horizon` for staying, 3 for a jump at
    once, and 4 (1 - 2^-horizon) by chance.
    """

    shared_reward = False

    def _begin_episodes(self) -> Tensors:
        return {"alive": self._ones(self.spec.num_agents) > 0}

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        return {"alive": tensors["alive"] & (action[..., 0] == 0)}

    def _active(self, tensors: Tensors) -> Tensor:
        return tensors["alive"]

    def _obs(self, tensors: Tensors) -> Tensor:
        return 0 * super()._obs(tensors)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return 1.0 + 2.0 * action[..., 0]


class Respawn(Probe):
    """Probe of new lives: two agents live 3 steps, are dead for a step, and live anew.

    agent_1 is a step ahead, at the start too: an agent is always alive. In the last step of a life, action 0
    earns 1 now, and action 1 ("sacrifice") earns 3 in the first step of the next life. No other action matters. An
    agent observes its age, one-hot of 3, and in the first step of a life also whether it will receive the 3.

    Each agent has 3 last steps in the 13 steps of an episode, and all sacrifices pay before the time limit. With
    `env.reward=team` the return outlives the agent, and sacrifice is right (2.4 for 1 at gamma 0.9): the team
    gets 18. With `env.reward=agent` the return ends with the life, and action 0 is right: 6. Chance is 12.
    """

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, spec_of([4, 4], [ActionHeads((2,))] * 2), 13, device)

    def _begin_episodes(self) -> Tensors:
        return {"due": self._ones(2) == 0}

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        age = self._age(tensors)
        return {"due": torch.where(age == 2, action[..., 0] == 1, tensors["due"] & (age == 3))}

    def _age(self, tensors: Tensors) -> Tensor:
        """Return the ages `(E, A)`: 0 to 2, and 3 for the dead."""
        return (tensors["clock"].unsqueeze(-1) + self._agents) % 4

    def _active(self, tensors: Tensors) -> Tensor:
        return self._age(tensors) < 3

    def _is_first(self, tensors: Tensors) -> Tensor:
        return super()._is_first(tensors) | (self._age(tensors) == 0)

    def _obs(self, tensors: Tensors) -> Tensor:
        return torch.cat([one_hot(self._age(tensors), 3), tensors["due"].float().unsqueeze(-1)], -1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        age = self._age(tensors)
        last = (age == 2) & (action[..., 0] == 0)
        return last.float() + 3.0 * (tensors["due"] & (age == 0))


class Arrival(Probe):
    """Probe of late arrival: agent_0 is active for all 8 steps, agent_1 from step 3 on.

    agent_0 observes a number from 0 to 3, sampled anew at each step, and earns 1 for each right name. agent_1
    observes a number at its arrival and zeros afterwards, and earns 1 if it names the number in the last step.

    The best returns are 8 and 1, chance is 2 and 1/4. Without memory, or with a memory of the time
    before the arrival, the returns are 8 and 1/4. The episode ends by itself, as in `Memory`.
    """

    arrives = 3

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, spec_of([4, 4], [ActionHeads((4,))] * 2), 8, device)

    def _begin_episodes(self) -> Tensors:
        return {"number": self._randint(4, 2)}

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        return {"number": torch.stack([self._randint(4), tensors["number"][:, 1]], -1)}

    def _active(self, tensors: Tensors) -> Tensor:
        return (tensors["clock"].unsqueeze(-1) >= self.arrives) | (self._agents == 0)

    def _over(self, tensors: Tensors) -> Tensor:
        return tensors["clock"] >= self.horizon

    def _is_first(self, tensors: Tensors) -> Tensor:
        return tensors["clock"].unsqueeze(-1) == self.arrives * self._agents

    def _obs(self, tensors: Tensors) -> Tensor:
        visible = (self._agents == 0) | self._is_first(tensors)
        return one_hot(tensors["number"], 4) * visible.unsqueeze(-1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        paid = (self._agents == 0) | (tensors["clock"] == self.horizon - 1).unsqueeze(-1)
        return ((action[..., 0] == tensors["number"]) & paid).float()


class Combined(Probe):
    """Probe of all features at once: three unequal agents, with 3, 4 and 5 actions and observations of 3, 5 and 7.

    An episode has 10 steps. The first observation of a life shows agent i a number below its number of actions;
    later observations are zeros. The name of the number is number + i (mod actions). As in `Mask`, the name or the
    action after it is illegal, sampled anew at each step, and the other action is right: it earns 1 in each step but
    the first of a life. agent_0 lives until the end; agent_1 dies after 3 to 7 steps; agent_2 too, and a step later
    begins another life, with another number. The dead have no legal action.

    Rewarded steps are 9, 4 (of 2 to 6) and 7 in expectation, in all 20: the best return. Chance among legal actions is
    9/2 + 4/3 + 7/4 = 7.58. A policy without the masks gets at most 10, and so does a policy without memory: among the
    legal actions, both neighbours of an illegal action are right equally often. The episode ends by itself, as in
    `Memory`.
    """

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        self._sizes = torch.tensor([3, 4, 5], device=device)
        super().__init__(num_envs, spec_of([3, 5, 7], [ActionHeads((n,)) for n in (3, 4, 5)]), 10, device)

    def _begin_episodes(self) -> Tensors:
        never = torch.full((self.num_envs,), 2 * self.horizon, device=self.device)
        dies = torch.stack([never, 3 + self._randint(5), 3 + self._randint(5)], -1)
        return {"number": self._sample_numbers(), "legal": self._randint(2, 3), "dies": dies}

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        number = torch.where(self._since_death(tensors) == 0, self._sample_numbers(), tensors["number"])
        return {"number": number, "legal": self._randint(2, 3)}

    def _sample_numbers(self) -> Tensor:
        """Sample a number for each agent: `(E, 3)`."""
        return torch.stack([self._randint(3), self._randint(4), self._randint(5)], -1)

    def _since_death(self, tensors: Tensors) -> Tensor:
        """Return the steps since each agent's death, negative before it: `(E, 3)`."""
        return tensors["clock"].unsqueeze(-1) - tensors["dies"]

    def _active(self, tensors: Tensors) -> Tensor:
        since = self._since_death(tensors)
        return (since < 0) | ((since > 0) & (self._agents == 2))

    def _over(self, tensors: Tensors) -> Tensor:
        return tensors["clock"] >= self.horizon

    def _is_first(self, tensors: Tensors) -> Tensor:
        return super()._is_first(tensors) | (self._since_death(tensors) == 1)

    def _obs(self, tensors: Tensors) -> Tensor:
        return one_hot(tensors["number"], 7) * self._is_first(tensors).unsqueeze(-1)

    def _mask(self, tensors: Tensors) -> Tensor:
        illegal = (tensors["number"] + self._agents + 1 - tensors["legal"]) % self._sizes
        has_action = torch.arange(5, device=self.device) < self._sizes.unsqueeze(-1)
        return has_action & (one_hot(illegal, 5) == 0) & self._active(tensors).unsqueeze(-1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        right = (tensors["number"] + self._agents + tensors["legal"]) % self._sizes
        return ((action[..., 0] == right) & ~self._is_first(tensors)).float()

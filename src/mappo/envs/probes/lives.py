"""Probes where agents die, come back and arrive late; see `probes`. Returns are not discounted.

                  best           chance
probe/death       10 an agent    4      to die brings 3 at once: right for who takes the dead for alive
probe/respawn     18 or 6        12     what a sacrifice brings comes in the next life: right for the team alone
probe/arrival     9              2.25   one agent comes later, and must remember its first observation
probe/combined    20             7.58   memory, masks, deaths, new lives and unequal agents at once
"""

import torch
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import TensorGame, Tensors, one_hot, spec_of
from mappo.envs.probes.basic import Constant


class Death(Constant):
    """Action 0, to stay, brings 1; action 1, to jump, brings 3 and death. When nobody is left the episode ends by
    itself, else it is truncated after `horizon` steps. Agents see zeros, which is also how the dead are read: no
    critic can tell one from the other, and what it says of the dead must not count.

    For `env.reward=agent` and gamma 0.9. To stay for ever is worth 1 / (1 - gamma) = 10, and 1 + 9 is more than 3.
    Who goes on counting after death has 3 + 9 for the jump. An agent that stays gets `horizon`, one that jumps at
    once 3, and chance 4 (1 - 2^-horizon).
    """

    shared_reward = False

    def _begin_episodes(self) -> Tensors:
        return {"alive": self._ones(self.spec.num_agents) > 0}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return {"alive": game["alive"] & (action[..., 0] == 0)}

    def _active(self, game: Tensors) -> Tensor:
        return game["alive"]

    def _obs(self, game: Tensors) -> Tensor:
        return 0 * super()._obs(game)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return 1.0 + 2.0 * action[..., 0]


class Respawn(TensorGame):
    """Two agents live 3 steps, are dead for one, and live anew; agent_1 is one step ahead, at the start too, so that
    there is always somebody. In the last step of a life, action 0 brings 1 now, and action 1 ("sacrifice") brings 3
    in the first step of the next life. Nothing else matters. An agent sees its age, one-hot of 3, and in the first
    step of a life whether the 3 will come.

    Each agent has 3 last steps in the 13 of an episode, and what it sacrifices comes before the time limit. With
    `env.reward=team` the return outlives the agent, so that sacrifice is right (2.4 for 1 at gamma 0.9): the team
    gets 18. With `env.reward=agent` the return ends with the life, and 0 is right: 6. Chance is 12.
    """

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, spec_of([4, 4], [ActionHeads((2,))] * 2), 13, device)

    def _begin_episodes(self) -> Tensors:
        return {"due": self._ones(2) == 0}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        age = self._age(game)
        return {"due": torch.where(age == 2, action[..., 0] == 1, game["due"] & (age == 3))}

    def _age(self, game: Tensors) -> Tensor:
        """0 to 2, and 3 for the dead."""
        return (game["clock"].unsqueeze(-1) + self._agents) % 4

    def _active(self, game: Tensors) -> Tensor:
        return self._age(game) < 3

    def _is_first(self, game: Tensors) -> Tensor:
        return super()._is_first(game) | (self._age(game) == 0)

    def _obs(self, game: Tensors) -> Tensor:
        return torch.cat([one_hot(self._age(game), 3), game["due"].float().unsqueeze(-1)], -1)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        last = (self._age(game) == 2) & (action[..., 0] == 0)
        return last.float() + 3.0 * (game["due"] & (self._age(game) == 0))


class Arrival(TensorGame):
    """agent_0 sees one of 4 numbers, drawn anew each step, and gets 1 when it names it, in all 8 steps. agent_1
    arrives in step 3: it sees a number then and zeros after, and gets 1 if it names it in the last step.

    The best returns are 8 and 1, chance is 2 and 1/4, and without memory, or with one spoilt by what came before
    the arrival, 8 and 1/4. The episode ends by itself, as in `Memory`.
    """

    arrives = 3

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, spec_of([4, 4], [ActionHeads((4,))] * 2), 8, device)

    def _begin_episodes(self) -> Tensors:
        return {"number": self._randint(4, 2)}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return {"number": torch.stack([self._randint(4), game["number"][:, 1]], -1)}

    def _active(self, game: Tensors) -> Tensor:
        return (game["clock"].unsqueeze(-1) >= self.arrives) | (self._agents == 0)

    def _over(self, game: Tensors) -> Tensor:
        return game["clock"] >= self.horizon

    def _is_first(self, game: Tensors) -> Tensor:
        return game["clock"].unsqueeze(-1) == self.arrives * self._agents

    def _obs(self, game: Tensors) -> Tensor:
        shown = (self._agents == 0) | self._is_first(game)
        return one_hot(game["number"], 4) * shown.unsqueeze(-1)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        paid = (self._agents == 0) | (game["clock"] == self.horizon - 1).unsqueeze(-1)
        return ((action[..., 0] == game["number"]) & paid).float()


class Combined(TensorGame):
    """Three unequal agents, with 3, 4 and 5 actions and vectors of 3, 5 and 7 to see, for 10 steps.

    The first observation of a life shows agent i one of as many numbers as it has actions; later ones are zeros.
    Its name is number + i (mod actions). As in `Mask`, that or the one after it is illegal, drawn anew each step,
    and right is the other one: 1 for that in each step but a life's first. agent_0 lives on; agent_1 dies after 3 to
    7 steps; agent_2 too, and one step later begins another life, with another number. Who is dead has no legal
    action.

    Rewarded steps are 9, 4 (of 2 to 6) and 7 in expectation, in all 20: the best return. Chance among legal actions
    is 9/2 + 4/3 + 7/4 = 7.58. Who does not see the masks has at most 10, and so has who does not remember: of
    what is legal, the neighbours of what is not are right, each as often. The episode ends by itself, as in `Memory`.
    """

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        self._sizes = torch.tensor([3, 4, 5], device=device)
        spec = spec_of([3, 5, 7], [ActionHeads((n,)) for n in (3, 4, 5)])
        super().__init__(num_envs, spec, 10, device)

    def _begin_episodes(self) -> Tensors:
        never = torch.full((self.num_envs,), 2 * self.horizon, device=self.device)
        dies = torch.stack([never, 3 + self._randint(5), 3 + self._randint(5)], -1)
        return {"number": self._numbers(), "legal": self._randint(2, 3), "dies": dies}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        number = torch.where(self._since_death(game) == 0, self._numbers(), game["number"])
        return {"number": number, "legal": self._randint(2, 3)}

    def _numbers(self) -> Tensor:
        return torch.stack([self._randint(3), self._randint(4), self._randint(5)], -1)

    def _since_death(self, game: Tensors) -> Tensor:
        return game["clock"].unsqueeze(-1) - game["dies"]

    def _active(self, game: Tensors) -> Tensor:
        since = self._since_death(game)
        return (since < 0) | ((since > 0) & (self._agents == 2))

    def _over(self, game: Tensors) -> Tensor:
        return game["clock"] >= self.horizon

    def _is_first(self, game: Tensors) -> Tensor:
        return super()._is_first(game) | (self._since_death(game) == 1)

    def _obs(self, game: Tensors) -> Tensor:
        return one_hot(game["number"], 7) * self._is_first(game).unsqueeze(-1)

    def _mask(self, game: Tensors) -> Tensor:
        illegal = (game["number"] + self._agents + 1 - game["legal"]) % self._sizes
        own = torch.arange(5, device=self.device) < self._sizes.unsqueeze(-1)
        return own & (one_hot(illegal, 5) == 0) & self._active(game).unsqueeze(-1)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        right = (game["number"] + self._agents + game["legal"]) % self._sizes
        return ((action[..., 0] == right) & ~self._is_first(game)).float()

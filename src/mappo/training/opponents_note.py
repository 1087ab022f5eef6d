"""A note on opponents in a team, from the first rollouts of a run."""

import numpy as np

from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import Rollout
from mappo.envs.opponents import Play, find_opponents

ENOUGH_STEPS = 5_000


class OpponentsNote:
    """Search for agents paid against each other, where a policy learns the sum of their rewards.

    Args:
        config: settings of each seed.
        spec: the agents.
    """

    def __init__(self, config: Config, spec: Spec) -> None:
        self._agents = spec.agents
        self._plays: list[Play] = []
        self._is_over = config.env.reward == "agent" or spec.shared_reward

    def check(self, rollout: Rollout) -> str:
        """Return a note, once, if the play so far shows opponents; otherwise ""."""
        if self._is_over:
            return ""
        self._plays += _plays(rollout)
        sides = find_opponents(self._agents, self._plays)
        self._is_over = bool(sides) or sum(len(play.rewards) for play in self._plays) >= ENOUGH_STEPS
        return sides and (
            f"the team holds opponents, as seen in play: {sides}. The policy learns the sum of both sides' rewards, "
            f"where the gains of one are the losses of the other. Give --env.reward agent, so that each agent learns "
            f"its own reward; or train one side, and play the other inside the environment"
        )


def _plays(rollout: Rollout) -> list[Play]:
    """Return the play of the first environments, split into episodes, of about `ENOUGH_STEPS` steps."""
    some = rollout.slice_envs(slice(-(-ENOUGH_STEPS // len(rollout.ended))))
    ended = some.ended.cpu().numpy()  # (T, E)
    rewards = some.reward.cpu().numpy()  # (T, E, A)
    deaths = (some.terminated & ~some.ended.unsqueeze(-1)).cpu().numpy()  # (T, E, A)
    plays: list[Play] = []
    for e in range(ended.shape[1]):
        cuts = ended[:, e].nonzero()[0] + 1
        parts = zip(np.split(rewards[:, e], cuts), np.split(deaths[:, e], cuts), strict=True)
        plays += [Play(*part) for part in parts if len(part[0])]
    return plays

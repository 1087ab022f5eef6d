"""Which rewards and ends a rollout's values are held against: between what is kept, and the pure `returns`."""

from torch import Tensor

from mappo.algorithms.critic import Values
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import Rollout
from mappo.functional.returns import discounted_return, gae, gae_data, n_step_return


def advantages(rollout: Rollout, values: Values, spec: Spec, config: Config, team_rows: bool) -> tuple[Tensor, Tensor]:
    """Advantages and returns, by `ppo.returns`; of the team's rows or of each agent's."""
    ppo, value = config.ppo, values.value
    reward, done, cut = _reward_and_flags(rollout, spec, config)
    if not team_rows and reward.ndim == 2:
        reward = reward.unsqueeze(-1).expand_as(value)
    if ppo.returns == "gae":
        adv = gae(gae_data(value, values.next_value, reward, done, cut), ppo.gamma, ppo.gae_lambda)
        return adv, adv + value
    if ppo.returns == "n_step":
        returns = n_step_return(values.next_value, reward, done, cut, ppo.gamma, ppo.n_step)
    else:
        returns = discounted_return(values.next_value, reward, done, cut, ppo.gamma)
    return returns - value, returns


def _reward_and_flags(rollout: Rollout, spec: Spec, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Reward, `done` (the bootstrap is masked) and `cut` (nothing flows back), of team or agents."""
    if config.env.reward == "agent":
        return rollout.reward, rollout.terminated, rollout.terminated | rollout.ended.unsqueeze(-1)
    # Of the team: the death of one does not end the return of the others.
    return spec.team_reward(rollout.reward), rollout.ended & rollout.terminated.all(-1), rollout.ended

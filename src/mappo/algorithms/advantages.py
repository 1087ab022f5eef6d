"""Advantages and returns of a rollout: which rewards and ends the pure functions of `functional.returns` get."""

from torch import Tensor

from mappo.algorithms.critic import Values
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import Rollout
from mappo.functional.returns import discounted_return, gae, gae_data, n_step_return


def advantages(rollout: Rollout, values: Values, spec: Spec, config: Config, team_rows: bool) -> tuple[Tensor, Tensor]:
    """Compute advantages and returns by the method `ppo.returns`.

    Args:
        rollout: T steps of E environments.
        values: the critic's values of the rollout.
        spec: the environment's.
        config: `env.reward`, `ppo.returns`, `ppo.gamma`, `ppo.gae_lambda` and `ppo.n_step` are read.
        team_rows: the critic has one row for the team.

    Returns:
        Advantages and returns, each `(T, E)` for team rows, else `(T, E, A)`.
    """
    ppo = config.ppo
    value = values.value  # (T, E) or (T, E, A)
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
    """Return reward, `done` (masks the bootstrap value) and `cut` (ends the trace): `(T, E)`, or `(T, E, A)`."""
    if config.env.reward == "agent":
        return rollout.reward, rollout.terminated, rollout.terminated | rollout.ended.unsqueeze(-1)
    # The team's return goes on after the death of one agent: only the end of the episode masks and cuts.
    return spec.team_reward(rollout.reward), rollout.ended & rollout.terminated.all(-1), rollout.ended

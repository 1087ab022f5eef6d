"""The fields of a `TimeStep` as `Spec` and `TimeStep` say."""

import torch

from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep


def check_time_step(spec: Spec, step: TimeStep, num_envs: int) -> None:
    """Shapes, dtypes, padding and finite numbers of all fields."""
    team = (num_envs, spec.num_agents)
    for obs, active in ((step.obs, step.active), (step.next_obs, step.next_active)):
        assert obs.shape == (*team, *spec.obs_shape)
        assert obs.dtype == spec.obs_dtype
        assert obs[active].isfinite().all()
        for i in range(spec.num_agents if len(spec.obs_shape) == 1 else 0):
            assert not obs[:, i, spec.obs_size(i) :].nan_to_num().any(), "padding is zeros, or NaN of the absent"
    for state in (step.state, step.next_state):
        assert (state is None) == (spec.state_shape is None)
        assert state is None or (state.shape == (num_envs, *(spec.state_shape or ())) and state.isfinite().all())
    if step.mask is not None:
        assert step.mask.shape == (*team, sum(spec.heads))
        assert step.mask.dtype == torch.bool
    for flag in (step.active, step.is_first, step.terminated, step.next_active):
        assert flag.shape == team
        assert flag.dtype == torch.bool
    assert step.ended.shape == (num_envs,)
    assert step.ended.dtype == torch.bool
    assert step.reward.shape == team
    assert step.reward.dtype == torch.float32
    assert step.reward.isfinite().all()
    assert not spec.shared_reward or (step.reward == step.reward[:, :1]).all()

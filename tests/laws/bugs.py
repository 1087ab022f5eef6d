"""The bugs that `mutants.py` puts in: a table to read, law by law; more are in `bugs_*.py`."""

from dataclasses import dataclass

from bugs_envs import ENVS
from bugs_faults import FAULTS
from bugs_hostile import HOSTILE
from bugs_speed import PRODUCTS, RECORDED
from bugs_strangers import STRANGERS


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in src/mappo/`file`; then tests/`tests` must fail."""

    law: str  # its number, or what else is guarded
    name: str
    file: str
    old: str
    new: str
    tests: str  # after pytest's fashion; more than one apart by blanks


BUGS = [
    # 1: advantages and returns
    Bug(
        *("1", "gae: a cut is ignored", "functional/returns.py"),
        "return 1 - ended, (1 - ended) * (1 - _flag(",
        "return 1 - ended, (1 - ended) * (1 - 0 * _flag(",
        "functional/test_returns.py::test_gae_equals_its_definition",
    ),
    Bug(
        *("1", "gae: parts are not apart", "functional/returns.py"),
        "advantage = torch.addcmul(delta_t, decay_t, advantage)",
        "advantage = torch.addcmul(delta_t, decay_t.clamp_min(0.1), advantage)",
        "functional/test_returns.py::test_cutting_at_traj_flag_and_computing_the_parts_apart_gives_the_same",
    ),
    Bug(
        *("1", "gae: done does not mask the value", "functional/returns.py"),
        "delta = reward + gamma * alive * next_value - value",
        "delta = reward + gamma * next_value - value",
        "functional/test_returns.py::test_lambda_0_is_the_td_error",
    ),
    Bug(
        *("1", "gae: lambda is left out", "functional/returns.py"),
        "(gamma * lambda_ * flows)",
        "(gamma * flows)",
        "functional/test_returns.py::test_golden_gae_of_one_trajectory_that_ends",
    ),
    Bug(
        *("1", "gae: gamma is left out of the trace", "functional/returns.py"),
        "(gamma * lambda_ * flows)",
        "(lambda_ * flows)",
        "functional/test_returns.py::test_lambda_1_is_the_monte_carlo_return_less_the_value",
    ),
    Bug(
        *("1", "gae: next_value is masked in place", "functional/returns.py"),
        "delta = reward + gamma * alive * next_value - value",
        "delta = reward + gamma * next_value.mul_(alive) - value",
        "functional/test_returns.py::test_inputs_are_unchanged",
    ),
    Bug(
        *("1", "gae: flags miss leading axes, not trailing ones", "functional/returns.py"),
        "reshape(flag.shape + (1,) * (reward.ndim - flag.ndim))",
        "reshape((1,) * (reward.ndim - flag.ndim) + flag.shape)",
        "functional/test_returns.py::test_flags_of_time_and_environment_cut_every_agent_alike",
    ),
    Bug(
        *("1", "returns: one step too many", "functional/returns.py"),
        "range(min(n, reward.shape[0]) - 1)",
        "range(min(n, reward.shape[0]))",
        "functional/test_returns.py::test_one_step_is_the_td_target",
    ),
    Bug(
        *("1", "returns: the end of the batch is no cut", "functional/returns.py"),
        "cut[-1].fill_(True)",
        "cut[-1] |= False",
        "functional/test_returns.py::test_discounted_return_equals_its_definition",
    ),
    Bug(
        *("1", "learner: the discounted return stops after n steps", "algorithms/advantages.py"),
        "returns = discounted_return(values.next_value, reward, done, cut, ppo.gamma)",
        "returns = n_step_return(values.next_value, reward, done, cut, ppo.gamma, ppo.n_step)",
        "algorithms/test_recurrent.py::test_advantages_and_targets_are_those_of_their_definitions",
    ),
    # 2: the losses
    Bug(
        *("2", "policy: the maximum of the two surrogates", "functional/losses.py"),
        "torch.min(ratio * adv,",
        "torch.max(ratio * adv,",
        "functional/test_losses.py::test_policy_error_equals_numpy",
    ),
    Bug(
        *("2", "policy: clipped at one end", "functional/losses.py"),
        "ratio.clamp(1 - clip_ratio, 1 + clip_ratio)",
        "ratio.clamp(max=1 + clip_ratio)",
        "functional/test_losses.py::test_policy_error_clips_at_both_ends_and_dual_clip_bounds_bad_actions",
    ),
    Bug(
        *("2", "policy: the dual clip bounds good actions", "functional/losses.py"),
        "torch.where(adv < 0, torch.max(",
        "torch.where(adv > 0, torch.max(",
        "functional/test_losses.py::test_policy_error_equals_numpy",
    ),
    Bug(
        *("2", "policy: KL by the plain mean of log-ratios", "functional/losses.py"),
        "weighted_mean(ratio - 1 - log_ratio, weight)",
        "weighted_mean(-log_ratio, weight)",
        "functional/test_losses.py::test_the_kl_estimate_is_never_negative",
    ),
    Bug(
        *("2", "means divide by the count of samples", "functional/losses.py"),
        "(x * weight).sum() / weight.sum().clamp_min(torch.finfo(x.dtype).tiny)",
        "(x * weight).mean()",
        "functional/test_losses.py::test_the_weighted_mean_divides_by_the_sum_of_the_weights",
    ),
    Bug(
        *("2", "value: clipping takes the smaller loss", "functional/losses.py"),
        "torch.max(loss, _pointwise(return_ - near",
        "torch.min(loss, _pointwise(return_ - near",
        "functional/test_losses.py::test_value_error_equals_numpy",
    ),
    Bug(
        *("2", "value: a team's value broadcasts", "functional/losses.py"),
        '_check_batch(value_new, "value_new", return_, "return_")',
        "pass",
        "functional/test_losses.py::test_a_team_value_does_not_broadcast_against_the_returns_of_agents",
    ),
    *(
        Bug("2", f"numbers: {name}", file, old, new, f"policies/test_policy.py::{test}")
        for name, file, old, new, test in [
            (
                *("the density is that before the tanh", "functional/distributions.py"),
                *("return log_prob - _log_slope(action),", "return log_prob,"),
                "test_log_density_of_a_squashed_gaussian_is_that_of_torch",
            ),
            (
                *("the entropy is that before the tanh", "functional/distributions.py"),
                *("entropy + _log_slope(mean + log_std.exp() * epsilon)", "entropy"),
                "test_the_entropy_of_a_squashed_gaussian_is_estimated_without_bias_and_so_is_its_gradient",
            ),
            (
                *("the tanh's slope is rounded to 0", "functional/distributions.py"),
                "return 2 * (math.log(2) - u - torch.logaddexp(torch.zeros_like(u), -2 * u))",
                "return torch.log(1 - torch.tanh(u).square() + 1e-6)",
                "test_far_beyond_the_bounds_density_and_gradient_are_exact_and_finite",
            ),
            (
                *("the noise of the first choice is taken again", "policies/policy.py"),
                *("gaussian_sample(mean, log_std, noise[..., heads:])",),
                "gaussian_sample(mean, log_std, noise[..., : self.continuous])",
                "test_draws_have_the_frequencies_and_moments_of_each_agent",
            ),
            (
                *("the standard deviation of one set is everyone's", "networks/network.py"),
                "self.constants.reshape(*lead, -1)",
                "self.constants[:1].reshape(-1)",
                "test_the_free_standard_deviations_are_each_sets_own",
            ),
        ]
    ),
    # 4: the same policy, the same numbers
    Bug(
        *("4", "learner: the mask is forgotten", "algorithms/loss.py"),
        "legal = policy.distribution.own if batch.mask is None else batch.mask",
        "legal = policy.distribution.own",
        "algorithms/test_mappo.py::test_a_rollout_read_again_with_the_same_weights_has_ratio_1_and_the_same_values_in_float64",
    ),
    Bug(
        *("4", "critic: values are those of the next observation", "algorithms/critic.py"),
        "rows = self.tower.see(self.joined(r.obs, r.state, r.active))",
        "rows = self.tower.see(self.joined(r.next_obs, r.next_state, r.next_active))",
        "algorithms/test_mappo.py::test_a_rollout_read_again_with_the_same_weights_has_ratio_1_and_the_same_values_in_float64",
    ),
    Bug(
        *("4", "collector: log-probabilities of one step late", "rollouts/collector.py"),
        "self.rollout.log_prob[t, part] = action, log_prob",
        "self.rollout.log_prob[t - 1, part] = action, log_prob",
        "algorithms/test_mappo.py::test_a_rollout_read_again_with_the_same_weights_has_ratio_1_and_the_same_values_in_float32",
    ),
    Bug(
        *("4", "sampling: another temperature than in training", "functional/distributions.py"),
        "log_prob = _log_softmax(logit, mask)\n    cdf =",
        "log_prob = _log_softmax(logit * 1.001, mask)\n    cdf =",
        "algorithms/test_mappo.py::test_a_step_read_again_alone_has_the_same_log_probabilities_bit_for_bit",
    ),
    *(
        Bug("4", f"memory: {name}", file, old, new, tests)
        for name, file, old, new, tests in [
            (
                *("a chunk starts from that behind its first step", "rollouts/collector.py"),
                "            if rollout.memory is not None and t % self.chunk == 0:\n"
                "                rollout.memory[t // self.chunk] = cast(Tensor, self.memory)\n"
                "            for index in range(len(self.steps)):\n"
                "                if t:\n"
                "                    self._receive(t - 1, index, totals)\n"
                "                self._act(t, index, noise)\n",
                "            for index in range(len(self.steps)):\n"
                "                if t:\n"
                "                    self._receive(t - 1, index, totals)\n"
                "                self._act(t, index, noise)\n"
                "            if rollout.memory is not None and t % self.chunk == 0:\n"
                "                rollout.memory[t // self.chunk] = cast(Tensor, self.memory)\n",
                "algorithms/test_recurrent.py::test_three_rollouts_in_a_row_are_read_again_with_the_same_numbers",
            ),
            (
                *("chunks mix times and environments", "algorithms/minibatch.py"),
                "return x.reshape(-1, length, *x.shape[1:]).transpose(0, 1).flatten(1, 2)",
                "return x.reshape(length, -1, *x.shape[1:]).flatten(1, 2)",
                "algorithms/test_recurrent.py::test_three_rollouts_in_a_row_are_read_again_with_the_same_numbers",
            ),
            (
                *("single steps are dealt, not chunks", "algorithms/mappo.py"),
                "0 if config.chunk is None else 1",
                "0",
                "algorithms/test_recurrent.py::test_whole_chunks_are_dealt_to_minibatches_each_once",
            ),
            (
                *("the critic's begins anew with each rollout", "algorithms/mappo.py"),
                "cast(Tensor, rollout.critic_memory).copy_(memory)",
                "cast(Tensor, rollout.critic_memory).zero_()",
                "algorithms/test_recurrent.py::test_critics_memories_go_on_in_the_next_rollout_and_are_zero_where_the_episode_ended",
            ),
            (
                *("the critic's goes on behind an episode's end", "algorithms/critic.py"),
                "return torch.where(over, 0.0, after[-1])",
                "return after[-1]",
                "algorithms/test_recurrent.py::test_critics_memories_go_on_in_the_next_rollout_and_are_zero_where_the_episode_ended",
            ),
            (
                *("the critic's is emptied in the last step", "algorithms/critic.py"),
                "torch.cat(\n                [torch.zeros_like(r.ended[:1]), r.ended[:-1]]\n            )",
                "r.ended",
                "algorithms/test_recurrent.py::test_three_rollouts_in_a_row_are_read_again_with_the_same_numbers",
            ),
            (
                *("a critic's goes on in another life", "algorithms/critic.py"),
                "first.unsqueeze(-1) | r.is_first",
                "first.unsqueeze(-1).expand_as(r.is_first)",
                "algorithms/test_recurrent.py::test_three_rollouts_in_a_row_are_read_again_with_the_same_numbers",
            ),
            (
                *("behind a time limit the critic is a step behind", "algorithms/critic.py"),
                "self._next_value(r, value, after)",
                "self._next_value(r, value, before)",
                "algorithms/test_recurrent.py::test_the_value_behind_a_time_limit_is_read_with_the_memory_of_the_episode",
            ),
        ]
    ),
    Bug(
        *("4", "observations: statistics move before the update", "algorithms/mappo.py"),
        "        batch, metrics, memory = self.prepare(rollout)\n",
        "        self.critic.look_back(rollout)\n        batch, metrics, memory = self.prepare(rollout)\n",
        "algorithms/test_recurrent.py::test_observations_are_normalised_by_what_was_seen_before_this_rollout",
    ),
    # 5: centralised training, decentralised execution
    Bug(
        *("5", "actor: it sees the team's mean observation", "networks/network.py"),
        "self.encoder(self.sets.deal(x, len(self.shape)))",
        "self.encoder(self.sets.deal(x + 1e-6 * x.mean(-2, keepdim=True), len(self.shape)))",
        "networks/test_actor_critic.py::test_another_agents_observation_never_changes_my_logits",
    ),
    Bug(
        *("5", "critic: it does not see the state", "networks/actor_critic.py"),
        "self.critic(global_obs)[0]",
        "self.critic(0 * global_obs)[0]",
        "networks/test_actor_critic.py::test_the_state_changes_the_value_and_observations_do_not",
    ),
    Bug(
        *("5", "agents: each has its own offset", "networks/actor_critic.py"),
        "ActorCriticOutput(self.actor(local_obs)[0], ",
        "ActorCriticOutput(self.actor(local_obs)[0] + torch.arange(self.agent_num)[:, None], ",
        "networks/test_actor_critic.py::test_permuting_agents_permutes_the_outputs",
    ),
    *(
        Bug("5", f"sharing: {name}", file, old, new, tests)
        for name, file, old, new, tests in [
            (
                *("answers stay in the order of the sets", "networks/layers.py"),
                *("x.index_select(0, self.back)", "x[: len(self.back)]"),
                "networks/test_layers.py::test_what_is_dealt_is_gathered_again",
            ),
            (
                *("unequal agents that share get no id", "networks/actor_critic.py"),
                "agent_id=spec.mixed(net.sharing) if net.agent_id is None else net.agent_id",
                "agent_id=bool(net.agent_id)",
                "policies/test_agent_kinds.py::test_agents_of_one_kind_share_by_default_and_others_never",
            ),
            (
                *("agents of one kind have statistics of their own", "networks/actor_critic.py", "kinds=spec.groups,"),
                "kinds=tuple(range(spec.num_agents)),",
                "algorithms/test_recurrent.py::test_observations_are_normalised_by_what_was_seen_before_this_rollout",
            ),
            (
                *(
                    "a critic's statistics are of kinds, not of sets",
                    "networks/actor_critic.py",
                    "sets=sets, kinds=sets)",
                ),
                "sets=sets, kinds=spec.groups if sets else ())",
                "policies/test_agent_kinds.py::test_one_critic_for_all_kinds_is_told_whose_value_it_gives",
            ),
        ]
    ),
    # 6: weight 0 and masked actions
    Bug(
        *("6", "silence: by a product", "functional/losses.py"),
        "torch.where(weight != 0, x, 0.0)",
        "x * (weight != 0)",
        "functional/test_losses.py::test_value_samples_of_weight_0_are_never_heard",
    ),
    Bug(
        *("6", "silence: behind the softmax only", "functional/losses.py"),
        "torch.where(heard, logit_new, 0.0), torch.where(heard, logit_old, 0.0)",
        "logit_new, logit_old",
        "functional/test_losses.py::test_policy_samples_of_weight_0_are_never_heard",
    ),
    Bug(
        *("6", "sampling: the flat parts of the CDF belong to it", "functional/distributions.py"),
        "(cdf <= noise",
        "(cdf < noise",
        "functional/test_distributions.py::test_a_masked_action_is_never_sampled_whatever_the_noise",
    ),
    Bug(
        *("6", "masking: by a number that is not small enough", "functional/distributions.py"),
        "torch.where(mask, logit, torch.finfo(logit.dtype).min)",
        "torch.where(mask, logit, -30.0)",
        "functional/test_distributions.py::test_a_masked_action_is_never_sampled_whatever_the_noise",
    ),
    Bug(
        *("6", "masking: by adding, so that gradients pass", "functional/distributions.py"),
        "torch.where(mask, logit, torch.finfo(logit.dtype).min)",
        "logit - 2.0 * ~mask",
        "functional/test_distributions.py::test_a_masked_action_is_never_learned_from",
    ),
    Bug(
        *("6", "actor: what absent agents see is read", "networks/network.py"),
        "if active is None:",
        "if True:",
        "algorithms/test_mappo.py::test_what_absent_agents_see_changes_neither_loss_nor_gradient",
    ),
    Bug(
        *("6", "critic: a dead agent's observation times 0", "algorithms/critic_input.py"),
        "obs = torch.where(there, obs, 0)",
        "obs = obs * there",
        "algorithms/test_mappo.py::test_what_absent_agents_see_changes_neither_loss_nor_gradient",
    ),
    Bug(
        *("6", "value norm: absent agents count", "algorithms/mappo.py"),
        "self.critic.move_statistics(returns, value_weight, answer)",
        "self.critic.move_statistics(returns, torch.ones_like(value_weight), answer)",
        "algorithms/test_mappo.py::test_value_statistics_are_those_of_the_agents_that_act",
    ),
    Bug(
        *("6", "collector: what absent agents see is checked", "rollouts/env_checks.py"),
        'if name not in ("obs", "next_obs"):',
        "if True:",
        "rollouts/test_collector.py::test_what_absent_agents_see_may_be_anything",
    ),
    *(
        Bug("6", name, file, old, new, tests)
        for name, file, old, new, tests in [
            (
                *("memory: that of before a life times 0", "networks/layers.py"),
                "memory = torch.where(start, 0.0, memory)",
                "memory = memory * ~start",
                "networks/test_layers.py::test_where_memory_starts_anew_nothing_of_before_is_left",
            ),
            (
                *("masks: a choice that an agent lacks is legal if said so", "policies/policy.py"),
                "mask[..., end - n : end] & own[..., end - n : end]",
                "mask[..., end - n : end]",
                "policies/test_policy.py::test_a_masked_action_of_any_head_is_never_drawn_nor_the_mode",
            ),
            (
                *("masks: one head's choice is enough for all heads", "policies/policy.py"),
                "torch.where(allowed.any(-1, keepdim=True), allowed, there)",
                "torch.where((mask & own).any(-1, keepdim=True), allowed, there)",
                "policies/test_policy.py::test_a_masked_action_of_any_head_is_never_drawn_nor_the_mode",
            ),
            (
                *("numbers: one that an agent lacks, times 0", "policies/policy.py"),
                "if self.own_numbers:",
                "if False:",
                "policies/test_policy.py::test_a_number_that_an_agent_lacks_may_be_anything",
            ),
            (
                *("observations: statistics of the absent", "algorithms/mappo.py"),
                "norm.update(rollout.obs, rollout.active)",
                "norm.update(rollout.obs, torch.ones_like(rollout.active))",
                "algorithms/test_recurrent.py::test_what_absent_agents_see_changes_nothing",
            ),
            (
                *("observations: statistics of NaN times 0", "networks/normalizers.py"),
                "x = torch.where(weight != 0, x.double().reshape(-1, agents, x.shape[-1]), 0.0)",
                "x = x.double().reshape(-1, agents, x.shape[-1])",
                "networks/test_layers.py::test_statistics_are_those_of_all_rows_ever_seen_of_each_kind",
            ),
            (
                *("critic: the dead are masked id and all", "algorithms/critic_input.py"),
                "        if self.death_mask:\n"
                "            rows = torch.where(there, rows, 0)\n"
                "        return torch.cat([rows, ids], -1)\n",
                "        rows = torch.cat([rows, ids], -1)\n"
                "        if self.death_mask:\n"
                "            rows = torch.where(there, rows, 0)\n"
                "        return rows\n",
                "networks/test_actor_critic.py::test_death_masking_leaves_the_dead_their_id",
            ),
        ]
    ),
    # 11: one critic row for the team
    Bug(
        *("11", "team rows: any agent weighs like all", "algorithms/mappo.py"),
        "value_weight = active.sum(-1)",
        "value_weight = (active.sum(-1) > 0).to(value.dtype)",
        "algorithms/test_mappo.py::test_one_critic_row_for_the_team_has_the_loss_and_gradient_of_a_row_for_each_agent",
    ),
    Bug(
        *("11", "team rows: advantages weigh alike", "algorithms/mappo.py"),
        "acted = active.sum(-1) if self.team_rows else active",
        "acted = torch.ones_like(adv)",
        "algorithms/test_mappo.py::test_advantages_are_normal_over_the_agents_that_act",
    ),
    # Two flags
    Bug(
        *("flags", "truncation masks the value too", "algorithms/advantages.py"),
        "return spec.team_reward(r.reward), r.ended & r.terminated.all(-1), r.ended",
        "return spec.team_reward(r.reward), r.ended, r.ended",
        "algorithms/test_mappo.py::test_at_a_truncation_the_value_of_what_was_reached_counts",
    ),
    Bug(
        *("flags", "one death ends the team's return", "algorithms/advantages.py"),
        "return spec.team_reward(r.reward), r.ended & r.terminated.all(-1), r.ended",
        "return spec.team_reward(r.reward), r.terminated.any(-1), r.ended",
        "algorithms/test_mappo.py::test_the_death_of_one_does_not_end_the_return_of_the_team",
    ),
    Bug(
        *("flags", "a team's value behind a death is not learned", "algorithms/mappo.py"),
        "value_weight = torch.ones_like(active)",
        "value_weight = active",
        "algorithms/test_mappo.py::test_a_teams_value_is_learned_on_the_rows_of_the_dead_too",
    ),
    Bug(
        *("flags", "next_value is that of the reset observation", "algorithms/critic.py"),
        "needs = r.ended.clone()",
        "needs = torch.zeros_like(r.ended)",
        "algorithms/test_mappo.py::test_advantages_and_targets_are_those_of_a_plain_loop",
    ),
    Bug(
        *("flags", "next_value is the value of the same step", "algorithms/critic.py"),
        "next_value, where = value.roll(-1, 0),",
        "next_value, where = value.clone(),",
        "algorithms/test_mappo.py::test_advantages_and_targets_are_those_of_a_plain_loop",
    ),
    Bug(
        *("flags", "agent rewards flow across episodes", "algorithms/advantages.py"),
        "r.terminated | r.ended.unsqueeze(-1)",
        "r.terminated",
        "algorithms/test_mappo.py::test_advantages_and_targets_are_those_of_a_plain_loop",
    ),
    # The rest of the learner
    Bug(
        *("learner", "targets by the old statistics", "algorithms/mappo.py"),
        "            if not again:\n"
        "                answer = self.critic.move_statistics(returns, value_weight, answer)\n"
        "            returns = self.value_norm.normalize(returns)\n",
        "            returns = self.value_norm.normalize(returns)\n"
        "            if not again:\n"
        "                answer = self.critic.move_statistics(adv, value_weight, answer)\n",
        "algorithms/test_mappo.py::test_old_statistics_make_the_advantages_and_new_ones_the_targets",
    ),
    Bug(
        *("learner", "statistics move before the advantages", "algorithms/critic.py"),
        "        value = self._in_reward_units(answer)\n",
        "        self.value_norm.update(r.reward, torch.ones_like(r.reward))\n"
        "        value = self._in_reward_units(answer)\n",
        "algorithms/test_mappo.py::test_old_statistics_make_the_advantages_and_new_ones_the_targets",
    ),
    Bug(
        *("learner", "old values are not in the critic's units", "algorithms/mappo.py"),
        "value=answer,",
        "value=value,",
        "algorithms/test_mappo.py::test_old_statistics_make_the_advantages_and_new_ones_the_targets",
    ),
    Bug(
        *("learner", "popart: old values keep their old scale", "algorithms/critic.py"),
        "return answer * scale + shift",
        "return answer",
        "algorithms/test_mappo.py::test_old_statistics_make_the_advantages_and_new_ones_the_targets",
    ),
    Bug(
        *("learner", "popart: the critic keeps its old offset", "algorithms/critic.py"),
        "head.bias.mul_(scale).add_(shift)",
        "head.bias.mul_(scale)",
        "algorithms/test_mappo.py::test_old_statistics_make_the_advantages_and_new_ones_the_targets",
    ),
    Bug(
        *("learner", "a gradient that is not finite is applied", "algorithms/mappo.py"),
        "cast(Any, self.optimizer).found_inf = broken.float()",
        "pass",
        "algorithms/test_mappo.py::test_a_gradient_that_is_not_finite_skips_the_step_and_is_counted",
    ),
    Bug(
        *("learner", "minibatches overlap", "algorithms/mappo.py"),
        "torch.randperm(rows, ",
        "torch.randint(rows, (rows,), ",
        "algorithms/test_mappo.py::test_minibatches_cover_each_row_exactly_once_in_random_order",
    ),
    Bug(
        *("learner", "the rates' schedule stands still", "algorithms/mappo.py"),
        "self.updates += 1",
        "pass",
        "algorithms/test_mappo.py::test_learning_rates_and_entropy_weight_go_down_in_straight_lines",
    ),
    Bug(
        *("learner", "the optimizer's moments are not resumed", "algorithms/mappo.py"),
        'set_moments(self.optimizer, self.network, part(state, "optimizer"))',
        "pass",
        "algorithms/test_mappo.py::test_a_learner_goes_on_from_its_state_bit_for_bit",
    ),
    *(
        Bug("learner", name, file, old, new, f"algorithms/test_recurrent.py::{test}")
        for name, file, old, new, test in [
            (
                *("popart: the head keeps its old scale", "algorithms/critic.py", "head.weight.mul_(scale)", "pass"),
                "test_values_stay_where_popart_moves_the_statistics",
            ),
            (
                *("recompute: statistics move again", "algorithms/mappo.py"),
                *("self.prepare(rollout, again=True)", "self.prepare(rollout)"),
                "test_advantages_made_anew_before_each_epoch_are_those_of_the_critic_of_then",
            ),
            (
                *("KL: epochs go on behind the bound", "algorithms/mappo.py", "                break\n"),
                "                continue\n",
                "test_no_further_epoch_once_the_policy_has_moved_too_far",
            ),
            (
                *("weights never decay", "algorithms/optimizer.py", "weight_decay=ppo.weight_decay, ", ""),
                "test_weights_decay_by_their_own_rate_beside_the_gradient",
            ),
        ]
    ),
    # Collector, value norm, networks
    Bug(
        *("collector", "observations are those behind the step", "rollouts/collector.py"),
        "self._store(THEN, (t, part), step)",
        "self._store((*NOW, *THEN), (t, part), step)",
        "rollouts/test_collector.py::test_rollouts_are_what_a_plain_loop_sees",
    ),
    Bug(
        *("collector", "numbers are sent as they were drawn", "rollouts/collector.py"),
        "self.turns.send(index, self.agent.env_action(action))",
        "self.turns.send(index, action)",
        "rollouts/test_collector.py::test_the_environment_is_sent_numbers_within_their_bounds_and_the_rollout_keeps_them_as_drawn",
    ),
    Bug(
        *("collector", "returns run on into the next episode", "rollouts/collector.py"),
        "running.masked_fill_(ended.unsqueeze(-1), 0)",
        "pass",
        "rollouts/test_collector.py::test_episodes_are_counted_as_a_plain_book_would",
    ),
    Bug(
        *("collector", "a wrong shape broadcasts", "rollouts/collector.py"),
        "if value.shape != kept.shape:",
        "if False:",
        "rollouts/test_collector.py::test_a_shape_that_changes_on_the_way_is_named_before_it_broadcasts",
    ),
    Bug(
        *("value norm", "the start at 0 is not divided out", "networks/normalizers.py"),
        "self.moments[1:] / weight.clamp_min(1e-300)",
        "self.moments[1:]",
        "networks/test_normalizers.py::test_moments_move_exponentially_and_their_start_at_0_is_divided_out",
    ),
    Bug(
        *("networks", "the orthogonal gain is left out", "networks/layers.py"),
        "nn.init.orthogonal_(matrix, gain)",
        "nn.init.orthogonal_(matrix)",
        "networks/test_actor_critic.py::test_weights_start_orthogonal_with_the_papers_gains_and_biases_0",
    ),
    Bug(
        *("networks", "the next layer forgets what the cheap tanh left to it", "networks/encoders.py"),
        "torch.sigmoid(layer(x, 2.0, factor))",
        "torch.sigmoid(layer(x, 2.0))",
        "networks/test_actor_critic.py::test_the_cheap_tanh_is_tanh_gradient_included",
    ),
    *(
        Bug("networks", name, file, old, new, f"networks/test_layers.py::{test}")
        for name, file, old, new, test in [
            (
                *("gru: what is kept and what is new are exchanged", "networks/layers.py"),
                *("memory = new + update * (memory - new)", "memory = memory + update * (new - memory)"),
                "test_a_gru_is_that_of_torch",
            ),
            (
                *("cnn: rows and columns are exchanged", "networks/encoders.py", "permute(1, 0, 4, 2, 3)"),
                *("permute(1, 0, 4, 3, 2)", "test_a_batched_tower_of_images_is_one_agent_after_another"),
            ),
            (
                *("observations: batches are merged without their distance", "networks/normalizers.py"),
                *(" + shift.square() * self.count * share", ""),
                "test_statistics_are_those_of_all_rows_ever_seen_of_each_kind",
            ),
            (
                *("observations: statistics are not saved", "networks/normalizers.py"),
                'self.register_buffer("mean", torch.zeros(sets, features, dtype=torch.float64))',
                'self.register_buffer("mean", torch.zeros(sets, features, dtype=torch.float64), persistent=False)',
                "test_statistics_stand_still_unless_updated_and_are_saved",
            ),
        ]
    ),
    # 3: the value of an endless task
    Bug(
        *("3", "learner: a time limit is taken for an end", "algorithms/advantages.py"),
        "r.ended & r.terminated.all(-1), r.ended",
        "r.ended, r.ended",
        "envs/probes/test_learning_laws.py::test_endless_reward_seen_through_a_time_limit_is_worth_1_over_1_minus_gamma",
    ),
    Bug(
        *("3", "learner: so it is for agents' own rewards", "algorithms/advantages.py"),
        "return r.reward, r.terminated, r.terminated",
        "return r.reward, r.terminated | r.ended.unsqueeze(-1), r.terminated",
        "envs/probes/test_learning_laws.py::test_endless_reward_seen_through_a_time_limit_is_worth_1_over_1_minus_gamma",
    ),
    Bug(
        *("3", "critic: values stay normalised", "algorithms/critic.py"),
        "return self.value_norm.denormalize(answer) if",
        "return answer if",
        "envs/probes/test_learning_laws.py::test_endless_reward_seen_through_a_time_limit_is_worth_1_over_1_minus_gamma",
    ),
    # 5: the policy alone
    Bug(
        *("5", "checkpoint: the actor is not loaded", "deploy/load.py"),
        "    tower.load_state_dict(weights)\n",
        "",
        "evaluation/test_score_run.py::test_a_saved_actor_is_the_policy_that_was_trained",
    ),
    Bug(
        *("5", "actor: greedy play forgets the mask", "policies/policy.py"),
        "self.distribution.mode(numbers, legal)",
        "self.distribution.mode(numbers, self.distribution.own)",
        "evaluation/test_score_run.py::test_a_saved_actor_respects_a_mask_and_draws_if_asked",
    ),
    *(
        Bug("5", f"one agent alone: {name}", "policies/actor.py", old, new, f"policies/test_policy.py::{test}")
        for test in ["test_one_agent_alone_acts_as_in_the_team_in_its_own_spaces"]
        for name, old, new in [
            ("its mask is lost", "legal[..., index, places] = given", "pass"),
            ("its memory is never emptied", "mask=legal, is_first=first)", "mask=legal)"),
            (
                "its numbers are those of the first columns",
                "self.columns = self.spec.action_heads[index], self.spec.columns(index)",
                "self.columns = self.spec.action_heads[index], range(self.spec.action_heads[index].size)",
            ),
            (
                "a channel is taken for a row",
                "whole[..., index, :, :, :] = spec.channels_last(obs)",
                "whole[..., index, :, :, :] = obs.reshape(*rows, *spec.obs_shape)",
            ),
        ]
    ),
    Bug(
        *("5", "actor: memory of the episode before", "policies/actor.py"),
        "mask=mask, is_first=first, active=there, noise=noise)",
        "mask=mask, active=there, noise=noise)",
        "algorithms/test_recurrent.py::test_a_saved_actor_plays_on_as_in_training_across_episodes",
    ),
    # 7: stopped and resumed
    *(
        Bug("7", f"resume: {name}", file, old, new, f"training/test_train.py::{test}")
        for test in ["test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not"]
        for name, file, old, new in [
            ("other minibatches", "algorithms/mappo.py", 'self.generator.set_state(state["generator"].cpu())', "pass"),
            (
                "other action noise",
                "rollouts/collector.py",
                'self.generators[seed].set_state(state["generator"].cpu())',
                "pass",
            ),
            (
                *("new games", "rollouts/collector.py"),
                *("self.steps[:] = self._parts_of(joined(shown))", "pass"),
            ),
            ("returns start anew", "rollouts/collector.py", 'self.running[share] = state["running"]', "pass"),
            (
                "no moments",
                "algorithms/optimizer.py",
                "optimizer.state[parameter], part(moments, name)",
                "{}, part(moments, name)",
            ),
            (
                "no value statistics",
                "algorithms/mappo.py",
                'self.value_norm.load_state_dict(part(state, "value_norm"))',
                "pass",
            ),
            ("schedules start anew", "algorithms/mappo.py", 'self.updates = int(state["updates"])', "self.updates = 0"),
            (
                *("actors have forgotten the episode", "rollouts/collector.py"),
                *('self.memory[share] = state["memory"]', "pass"),
            ),
            (
                *("so has the critic", "rollouts/collector.py"),
                *('self.rollout.critic_memory[share] = state["critic_memory"]', "pass"),
            ),
            ("the best is forgotten", "training/seed_run.py", "float(best)", "-math.inf"),
        ]
    ),
    # 12: it learns
    *(
        Bug("12", f"{task}: {name}", file, old, new, f"envs/probes/test_learning_laws.py::{test}")
        for name, file, old, new in [
            (
                *("advantages upside down", "algorithms/mappo.py"),
                "adv = (adv - weighted_mean(adv, acted))",
                "adv = (weighted_mean(adv, acted) - adv)",
            ),
            ("no step is taken", "algorithms/optimizer.py", 'group["lr"] = rate', 'group["lr"] = 0.0'),
        ]
        for task, test in [
            ("signal", "test_each_agent_learns_to_name_what_it_sees"),
            ("spread", "test_spread_is_learned_to_its_band_in_60_000_steps"),
        ]
    ),
    *(
        Bug("12", f"{task}: {name}", file, old, new, f"envs/probes/test_learning.py::{test}")
        for task, name, file, old, new, test in [
            (
                *("memory", "the loss forgets at each step", "algorithms/loss.py", "batch.memory[0], batch.first)"),
                *("batch.memory[0], torch.ones_like(batch.weight) > 0)", "test_it_is_learned[probe/memory-0]"),
            ),
            (
                *("arrival", "an agent that arrives has its row's memory", "algorithms/mappo.py"),
                "step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active, noise=noise",
                "step.obs, memory, mask=step.mask, active=step.active, noise=noise",
                "test_it_is_learned[probe/arrival-0]",
            ),
            (
                *("death", "an agent's value goes on behind it", "algorithms/advantages.py"),
                "return r.reward, r.terminated, r.terminated | r.ended.unsqueeze(-1)",
                "return r.reward, r.terminated & False, r.terminated | r.ended.unsqueeze(-1)",
                "test_it_is_learned[probe/death-0]",
            ),
            (
                *("multidiscrete", "the first head alone is learned", "functional/distributions.py"),
                "return sum_of([p[0] for p in parts]), sum_of([p[1] for p in parts])",
                "return parts[0]",
                "test_it_is_learned[probe/multidiscrete-0]",
            ),
            (
                *("unequal", "who shares all has no id", "core/spec.py"),
                "return any(group != self.groups[sets.index(name)]",
                "return any(False",
                "test_one_network_for_unequal_agents_needs_an_id",
            ),
            (
                *("roles", "a critic is not told whose value it gives", "algorithms/critic_input.py"),
                "return torch.cat([rows, ids], -1)",
                "return torch.cat([rows, 0 * ids], -1)",
                "test_a_critic_that_knows_whose_value_it_gives_tells_agents_apart",
            ),
        ]
    ),
    # 13: the same seed
    *(
        Bug("13", name, file, old, new, f"training/test_train.py::{test}")
        for test in ["test_numbers_are_the_same_for_the_same_seed_and_others_for_another"]
        for name, file, old, new in [
            (
                "noise from the clock",
                "training/session.py",
                "generators[-1].manual_seed(derive_seed(track.seed, 1, updates))",
                "generators[-1].seed()",
            ),
            (
                "weights from the clock",
                "networks/actor_critic.py",
                "default_generator.manual_seed(seed)",
                "default_generator.seed()",
            ),
            ("every seed is 0", "training/seed_run.py", "SeedSequence(path)", "SeedSequence(path[1:])"),
        ]
    ),
    # Besides the laws
    *(
        Bug("evaluation", name, "evaluation/episodes.py", old, new, f"evaluation/test_score_run.py::{test}")
        for name, old, new, test in [
            (
                *("later games count", "torch.where(going.unsqueeze(-1), step.reward, 0.0)", "step.reward"),
                "test_each_seed_counts_once_with_its_first_episode_whatever_the_batch",
            ),
            (
                *("padding counts", "x[: len(seeds)].cpu()", "x.cpu()"),
                "test_each_seed_counts_once_with_its_first_episode_whatever_the_batch",
            ),
            ("a third for a quarter", "len(values) // 4", "len(values) // 3", "test_summary_is_what_numpy_says"),
            ("pairs are mixed", "told(sums - theirs)", "told(sums - theirs[::-1])", "test_score_compares_game_by_game"),
        ]
    ),
    *(
        Bug("checkpoints", name, "runs/checkpoint.py", old, new, f"runs/test_checkpoint.py::{test}")
        for name, old, new, test in [
            (
                *("half a checkpoint looks whole", 'f".{final.name}.tmp"', 'f"{final.name}.tmp"'),
                "test_a_process_killed_while_writing_leaves_the_checkpoints_before_whole",
            ),
            (
                *(
                    "damage goes unnoticed",
                    'if _digest(file) != state["sha256"].get(file.name):',
                    "if False:",
                ),
                "test_a_damaged_last_checkpoint_is_passed_over",
            ),
            ("the best is pruned", "[-KEPT:]} | {best}", "[-KEPT:]}", "test_the_last_two_and_the_best_are_kept"),
            (
                "a full disk is a traceback",
                "except (OSError, SafetensorError) as error:\n        shutil",
                "except OSError as error:\n        shutil",
                "test_a_full_disk_leaves_the_checkpoints_before_whole",
            ),
        ]
    ),
    Bug(
        *("checkpoints", "nothing is flushed", "system/files.py", "os.fsync(descriptor)", "pass"),
        "runs/test_checkpoint.py::test_everything_is_on_the_disk_before_the_rename",
    ),
    Bug(
        *("runs", "trainer: threads stay as they were set", "training/train.py"),
        "stack.callback(torch.set_num_threads, threads)",
        "pass",
        "training/test_train.py::test_the_number_of_threads_is_given_back",
    ),
    Bug(
        *("runs", "trainer: a crash leaves files open", "training/train.py"),
        "stack.callback(session.close)",
        "pass",
        "training/test_train.py::test_a_run_that_crashed_between_checkpoints_repeats_what_was_lost",
    ),
    Bug(
        *("runs", "signals are not heard", "cli/signals.py"),
        "raise StopTraining",
        "pass",
        "cli/test_main.py::test_a_signal_ends_training_after_the_update_under_way",
    ),
    Bug(
        *("runs", "config: help waits for torch", "config/config.py"),
        "import dataclasses\n",
        "import dataclasses\n\nimport torch\n",
        "config/test_presets.py::test_presets_and_settings_load_without_torch",
    ),
    *(
        Bug("seeds", name, file, old, new, f"{test}")
        for name, file, old, new, test in [
            (
                *("all draw the same minibatches", "algorithms/multi_seed.py"),
                "a.shuffled(rollout.of(part)) if goes",
                "self._first.shuffled(rollout.of(part)) if goes",
                "algorithms/test_multi_seed.py::test_each_seed_learns_what_it_learns_alone",
            ),
            (
                *(
                    "one norm clips all",
                    "algorithms/multi_seed.py",
                    ".square().sum(1) for",
                    ".square().sum().expand(len(g)) for",
                ),
                "algorithms/test_multi_seed.py::test_gradients_are_clipped_as_torch_does",
            ),
            (
                *(
                    "who was stopped by the KL learns on",
                    "algorithms/multi_seed.py",
                    "            if goes:\n",
                    "            if True:\n",
                ),
                "algorithms/test_multi_seed.py::test_each_seed_learns_what_it_learns_alone",
            ),
            (
                *(
                    "one gradient that is not finite stops all",
                    "algorithms/multi_seed.py",
                    "zip(self.agents, broken.float(), going",
                ),
                "zip(self.agents, broken.any().float().expand(len(going)), going",
                "algorithms/test_multi_seed.py::test_a_seed_whose_gradient_is_not_finite_stands_still_and_the_others_learn",
            ),
            (
                *(
                    "statistics are those of the first",
                    "algorithms/multi_seed.py",
                    "self._weights | self._statistics, given",
                ),
                *("self._weights, given", "algorithms/test_multi_seed.py::test_each_seed_learns_what_it_learns_alone"),
            ),
            (
                *(
                    "all draw the same noise",
                    "rollouts/collector.py",
                    "for g in self.generators]",
                    "for g in self.generators[:1]]",
                ),
                "algorithms/test_multi_seed.py::test_each_seed_learns_what_it_learns_alone",
            ),
            (
                *("halves mix the seeds", "rollouts/collector.py", "parted and len(self.generators) == 1", "parted"),
                "training/test_seed_runs.py::test_python_environments_of_all_seeds_share_the_workers_and_no_episode",
            ),
            (
                *(
                    "seeds go on from different steps",
                    "training/seed_run.py",
                    "for f in found}) > 1:",
                    "for f in found}) > 99:",
                ),
                "training/test_seed_runs.py::test_where_the_process_died_between_two_saves_all_go_back_to_the_step_that_all_have",
            ),
            (
                *(
                    "the interval is over games",
                    "evaluation/episodes.py",
                    "x[0] if len(x) == 1 else x.mean(1)",
                    "x.reshape(-1)",
                ),
                "training/test_seed_runs.py::test_a_score_is_that_of_the_seeds_and_its_interval_is_over_them",
            ),
            (
                *(
                    "all seeds of batched games start alike",
                    "training/session.py",
                    "first = derive_seed(track.seed, 2, updates)",
                ),
                "first = derive_seed(1, 2, updates)",
                "training/test_seed_runs.py::test_the_runs_numbers_are_those_of_all_seeds",
            ),
        ]
    ),
    # What is measured
    Bug(
        *("bench", "the clock is read before the device is done", "experiments/workload.py"),
        "            part.work()\n            sync()\n",
        "            part.work()\n",
        "experiments/test_bench.py::test_what_a_device_still_has_to_do_counts_for_whoever_asked_for_it",
    ),
    Bug(
        *("bench", "the device's earlier work counts too", "experiments/workload.py"),
        "                part.before()\n            sync()\n",
        "                part.before()\n",
        "experiments/test_bench.py::test_what_a_device_still_has_to_do_counts_for_whoever_asked_for_it",
    ),
    Bug(
        *("bench", "a product is left out", "experiments/workload.py"),
        "                    if layer:  #",
        "                    if layer > 1:  #",
        "experiments/test_bench.py::test_the_bare_products_are_the_products_of_the_work",
    ),
    Bug(
        *("bench", "shares of medians of different rounds", "experiments/bench.py"),
        "statistics.median(own[clock] / whole[clock] for own, whole in zip(times, spent[WHOLE], strict=True))",
        "statistics.median(t[clock] for t in times) / statistics.median(t[clock] for t in spent[WHOLE])",
        "experiments/test_bench.py::test_figures_are_medians_and_shares_those_of_each_round",
    ),
    *(Bug(*row) for row in [*ENVS, *FAULTS, *HOSTILE, *PRODUCTS, *RECORDED, *STRANGERS]),
]

"""The bugs of the environments, as rows of `bugs.py`."""

# law, name, file, old, new, tests
ENVS: list[tuple[str, str, str, str, str, str]] = [
    # 9: environments that follow mpe2
    *(
        ("9", f"spread: {name}", file, old, new, f"envs/batched/test_spread.py::{test}")
        for name, file, old, new, test in [
            (
                *("the velocity changes before the position", "envs/batched/spread.py", "self._velocity * DT\n"),
                *("(self._velocity * (1 - DAMPING) + force * DT) * DT\n", "test_an_episode_is_that_of_mpe2"),
            ),
            (
                *("contact is left out", "envs/batched/spread.py", "self._moves[action] + self._contact()"),
                *("self._moves[action]", "test_contacts_are_those_of_mpe2"),
            ),
            (
                *(
                    "contact is hard, not soft",
                    "envs/batched/spread.py",
                    "torch.logaddexp(torch.zeros_like(depth), depth)",
                ),
                *("depth.clamp_min(0)", "test_contacts_are_those_of_mpe2"),
            ),
            (
                *("agents collide at half the distance", "envs/batched/spread.py", "-(self._apart < 2 * AGENT_RADIUS)"),
                *("-(self._apart < AGENT_RADIUS)", "test_contacts_are_those_of_mpe2"),
            ),
            (
                *("each agent's nearest landmark counts", "envs/batched/spread.py", "self._to_goal.amin(1)"),
                *("self._to_goal.amin(2)", "test_an_episode_is_that_of_mpe2"),
            ),
            (
                *(
                    "a step too long",
                    "envs/batched/particles.py",
                    "self._clock >= self.horizon",
                    "self._clock > self.horizon",
                ),
                "test_an_episode_is_that_of_mpe2",
            ),
            (
                *("the time limit is a termination", "envs/batched/particles.py", "terminated=nobody"),
                *("terminated=everyone if ended else nobody", "test_an_episode_is_that_of_mpe2"),
            ),
            (
                *("next_obs is behind the reset", "envs/batched/particles.py"),
                "return self._time_step(obs, next_obs, reward, ended)",
                "return self._time_step(obs, obs, reward, ended)",
                "test_at_the_time_limit_next_obs_is_before_the_reset_and_obs_behind_it",
            ),
            (
                *("the clock is not saved", "envs/batched/particles.py", 'self._clock = int(state["clock"])', "pass"),
                "test_saved_in_the_middle_of_an_episode_it_goes_on_bit_for_bit",
            ),
            (
                *("landmarks are drawn first", "envs/batched/spread.py", "self._placed(places)"),
                *("self._placed(places).roll(self.num_agents, 1)", "test_a_reset_from_a_seed_is_mpe2s_bit_for_bit"),
            ),
            (
                *("in the paper, the position changes first", "envs/batched/spread.py"),
                *("        if self.paper:\n            self._velocity = velocity\n", ""),
                "test_one_step_of_the_papers_conventions_is_that_of_numpy",
            ),
            (
                *(
                    "in the paper, no agent collides with itself",
                    "envs/batched/spread.py",
                    "common + own - 1",
                    "common + own",
                ),
                "test_one_step_of_the_papers_conventions_is_that_of_numpy",
            ),
        ]
    ),
    *(
        (
            "9",
            f"speaker: {name}",
            "envs/batched/speaker_listener.py",
            old,
            new,
            f"envs/batched/test_speaker_listener.py::{test}",
        )
        for name, old, new, test in [
            (
                *("the last word is heard in the next game", "self._zeros(2), self._zeros(WORDS)"),
                'self._zeros(2), getattr(self, "_heard", self._zeros(WORDS))',
                "test_a_word_is_heard_in_the_next_observation_and_until_the_next_word",
            ),
            (
                *("the goal stays for ever", "        self._goal = self._draw(", "        self._draw("),
                "test_at_the_time_limit_next_obs_is_before_the_reset_and_obs_behind_it",
            ),
            (
                *("the team is paid twice", "shared_reward=True", "shared_reward=False"),
                "test_the_reward_is_one_number_for_both_and_the_teams",
            ),
        ]
    ),
    *(
        ("9", f"reference: {name}", "envs/batched/reference.py", old, new, f"envs/batched/test_reference.py::{test}")
        for name, old, new, test in [
            (
                *("an agent sees its own goal", "self._colors[self._goal]", "self._colors[self._goal.flip(1)]"),
                "test_a_reset_from_a_seed_is_mpe2s_bit_for_bit",
            ),
            (
                "places are drawn before goals",
                "        goals = np.stack([generator.integers(LANDMARKS, size=2) for generator in generators])\n"
                "        self._place = self._placed([generator.uniform(-1, 1, (2 + LANDMARKS, 2)) for generator in "
                "generators])\n",
                "        self._place = self._placed([generator.uniform(-1, 1, (2 + LANDMARKS, 2)) for generator in "
                "generators])\n"
                "        goals = np.stack([generator.integers(LANDMARKS, size=2) for generator in generators])\n",
                "test_a_reset_from_a_seed_is_mpe2s_bit_for_bit",
            ),
            (
                *("an agent's own distance to the other's goal", "(others - self._place"),
                *("(others.flip(1) - self._place", "test_an_agent_is_given_the_others_distance_and_the_team_the_sum"),
            ),
            (
                *("local_ratio is the share of the mean", "* (1 - self.local_ratio) + own * self.local_ratio"),
                "* self.local_ratio + own * (1 - self.local_ratio)",
                "test_an_agent_is_given_the_others_distance_and_the_team_the_sum",
            ),
            (
                *("the velocity is not damped", "self._velocity * (1 - DAMPING) + self", "self._velocity + self"),
                "test_an_episode_is_that_of_mpe2",
            ),
            (
                *("the velocity changes before the position", "self._place[:, :2] + self._velocity * DT"),
                "self._place[:, :2] + (self._velocity * (1 - DAMPING) + self._moves[move] * DT) * DT",
                "test_an_episode_is_that_of_mpe2",
            ),
            (
                *("who speaks hears itself", "self._words[said.flip(1)]", "self._words[said]"),
                "test_a_word_is_heard_by_the_other_in_the_next_observation_and_until_the_next_word",
            ),
            (
                *("the last word is heard in the next game", "self._zeros(2, 2), self._zeros(2, WORDS)"),
                'self._zeros(2, 2), getattr(self, "_heard", self._zeros(2, WORDS))',
                "test_a_word_is_heard_by_the_other_in_the_next_observation_and_until_the_next_word",
            ),
            (
                *("word and move are exchanged", "action // len(MOVES), action % len(MOVES)"),
                "action % WORDS, action // WORDS",
                "test_whatever_is_said_the_move_is_that_of_the_remainder",
            ),
            (
                *("the goals stay for ever", "        self._goal = self._draw(", "        self._draw("),
                "test_at_the_time_limit_next_obs_is_before_the_reset_and_obs_behind_it",
            ),
        ]
    ),
    # battle, and the probes
    *(
        ("battle", name, "envs/batched/battle.py", old, new, f"envs/batched/test_battle.py::{test}")
        for name, old, new, test in [
            (
                *("attacks do not reach as far as they should", "place.unsqueeze(2)) <= RANGE"),
                *("place.unsqueeze(2)) < RANGE", "test_attacks_reach_half_a_unit"),
            ),
            (
                *("the living may do nothing", "torch.cat([~own, own,", "torch.cat([own | ~own, own,"),
                "test_the_mask_of_the_living_and_of_the_dead",
            ),
            (
                *("the dead may move", "inside & own, attack", "inside, attack"),
                "test_the_mask_of_the_living_and_of_the_dead",
            ),
            ("the dead may attack", "attack & own]", "attack]", "test_the_mask_of_the_living_and_of_the_dead"),
            (
                *("the dead may be attacked", "attack = near & alive[:, n:].unsqueeze(1)", "attack = near"),
                "test_the_mask_of_the_living_and_of_the_dead",
            ),
            (
                *("units may leave the square", "inside & own, attack", "own.expand_as(inside), attack"),
                "test_the_mask_of_the_living_and_of_the_dead",
            ),
            (
                *("what is illegal is done", "torch.where(self._mask(game).gather(-1, action), action, STOP)"),
                *("action", "test_what_is_illegal_is_a_stop"),
            ),
            (
                *("attacks move who attacks", '"place": game["place"] + self._moves[action]'),
                '"place": game["place"] + self._moves[torch.where(action < ATTACK, action, 2)]',
                "test_the_enemies_play_what_attack_nearest_plays",
            ),
            (
                *("attacks are aimed from behind the move", "self._enemies(game)], 1)"),
                'self._enemies({**game, "place": game["place"] + self._moves[torch.cat([own, own * 0], 1)]})], 1)',
                "test_chance_loses_the_naive_rule_wins_half_and_who_fights_together_nearly_always",
            ),
            (
                *("enemies shoot at the dead", "alive[:, :n].unsqueeze(1).expand(-1, n, -1)"),
                *("torch.ones_like(ways[..., 0]) > 0", "test_an_enemy_attacks_the_nearest_of_the_living"),
            ),
            (
                *("dead enemies shoot", "torch.where(alive[:, n:], choice, NO_OP)", "choice"),
                "test_the_enemies_play_what_attack_nearest_plays",
            ),
            (
                *("damage to the dead is paid", '(game["health"] - hit).clamp_min(0)', 'game["health"] - hit'),
                "test_damage_and_kills_pay_the_whole_team",
            ),
            (
                *("a kill is paid at each step", "((before > 0) & (left == 0))", "(left == 0)"),
                "test_damage_and_kills_pay_the_whole_team",
            ),
            (
                *("a victory without a survivor", "won = beaten & standing.any(-1)", "won = beaten"),
                "test_who_falls_with_the_last_enemy_has_not_won",
            ),
            (
                *("the dead are not paid", "reward.unsqueeze(-1).repeat(1, n)", "reward.unsqueeze(-1) * standing"),
                "test_the_dead_are_paid_too_and_have_died_once",
            ),
            (
                *("the dead die at each step", "(self._active(game) & ~standing)", "~standing"),
                "test_the_dead_are_paid_too_and_have_died_once",
            ),
            (
                *("the time limit is a termination", "~standing) | over.unsqueeze(-1)"),
                *("~standing) | ended.unsqueeze(-1)", "test_the_time_limit_is_a_truncation"),
            ),
            (
                *("a victory is a truncation", "(self._active(game) & ~standing) | over.unsqueeze(-1)"),
                *("self._active(game) & ~standing", "test_a_victory_ends_the_episode_by_itself"),
            ),
            (
                *("next_obs is behind the reset", "self._time_step(after, reward"),
                *("self._time_step(self._game, reward", "test_the_time_limit_is_a_truncation"),
            ),
            (
                *("one end is everyone's", "torch.where(ended.view("),
                *("torch.where(ended.any().expand_as(ended).reshape(", "test_battles_end_each_in_its_own_time"),
            ),
            (
                *("all battles start from the first seed", "np.random.default_rng(s)"),
                *("np.random.default_rng(seeds[0])", "test_a_battle_starts_from_its_own_seed_whatever_the_batch"),
            ),
            (
                *("sight has no end", " & (length(ways) <= SIGHT)", ""),
                "test_an_agent_sees_itself_the_others_and_the_enemies_up_to_one_away",
            ),
            (
                *("the dead are still seen", '(game["health"] > 0).unsqueeze(1) & (length', "(length"),
                "test_an_agent_sees_itself_the_others_and_the_enemies_up_to_one_away",
            ),
            (
                *("the state holds the dead", '(self._units(game) * (game["health"] > 0).unsqueeze(-1))'),
                *("self._units(game)", "test_the_state_shows_everybody_alive_whoever_sees_them"),
            ),
        ]
    ),
    *(
        ("12", f"probes: {name}", file, old, new, f"envs/probes/test_probes.py::{test}")
        for name, file, old, new, test in [
            (
                *("a time limit is an end", "envs/batched/tensor_game.py", "        over = self._over(after)\n"),
                '        over = self._over(after) | (after["clock"] >= self.horizon)\n',
                "test_a_constant_reward_ends_by_a_time_limit_alone",
            ),
            (
                *("a new life is the old one", "envs/probes/lives.py", "super()._first(game) | (self._age(game) == 0)"),
                *("super()._first(game)", "test_a_probe_keeps_the_contract"),
            ),
        ]
    ),
    (
        *(
            "7",
            "resume: other new games",
            "envs/batched/base.py",
            'self._generator.set_state(state["generator"].cpu())',
        ),
        *("pass", "training/test_train.py::test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not"),
    ),
    # 10: vectorised is looped
    *(
        ("10", f"game: {name}", "envs/vector/env_slot.py", old, new, f"envs/vector/test_serial.py::{test}")
        for name, old, new, test in [
            (
                *("a time limit is an end", "terminated | (not any(cuts.get(a) and not ends.get(a) for a in acting))"),
                *("True", "test_mpe2_in_a_batch_is_a_plain_loop_over_single_environments"),
            ),
            (
                "the final observation is the next game's first",
                '            self._show(Row(row.obs, row.state, row.mask, there), "next_")\n'
                '            rows["episode"][...] += 1\n'
                "            self._start()\n",
                '            rows["episode"][...] += 1\n'
                "            row = self._start()\n"
                '            self._show(Row(row.obs, row.state, row.mask, there), "next_")\n',
                "test_mpe2_in_a_batch_is_a_plain_loop_over_single_environments",
            ),
            (
                *("rewards of those who were not there", " if a in acting else 0.0 for", " for"),
                "test_an_agent_that_arrives_late_starts_a_life_then",
            ),
            (
                *("deaths at a time limit are not told", "a in acting and bool(ends.get(a, False)) for", "False for"),
                "test_who_dies_in_the_very_step_of_the_time_limit_is_not_there_to_be_bootstrapped",
            ),
            (
                *("lives cut off alone go on", "= terminated | gone", "= terminated"),
                "test_a_life_cut_off_while_others_go_on_is_over",
            ),
            (
                *("the dead are still seen", 'row.obs[~row.active] = 0\n            self._show(row, "next_")'),
                *('self._show(row, "next_")', "test_an_agent_that_dies_is_told_so_once_and_is_then_gone"),
            ),
            (
                *("an end leaves out the dead", "terminated | (not any(", "terminated | before & (not any("),
                "test_an_episode_that_ends_by_itself_is_terminated_for_all_the_dead_included",
            ),
            (
                *("arrivals start no life", "row.active & (~before | gone)", "False"),
                "test_an_agent_that_arrives_late_starts_a_life_then",
            ),
            (
                *("who dies and stays starts no life", "row.active & (~before | gone)", "row.active & ~before"),
                "test_who_comes_back_in_the_step_of_its_death_begins_another_life_and_acts",
            ),
            (
                *("the dead are there at a time limit", "there = before & ~terminated", "there = before"),
                "test_who_dies_in_the_very_step_of_the_time_limit_is_not_there_to_be_bootstrapped",
            ),
            (
                *("every game is the first", "        if episode:", "        if False:"),
                "test_first_games_start_from_the_seeds_later_ones_from_what_derives_from_them",
            ),
            (
                *("an end raises no episode number", '            rows["episode"][...] += 1\n', ""),
                "test_first_games_start_from_the_seeds_later_ones_from_what_derives_from_them",
            ),
            (
                *("actions of the inactive are sent", "for j, a in enumerate(agents) if before[j]}"),
                *("for j, a in enumerate(agents)}", "test_an_agent_that_dies_is_told_so_once_and_is_then_gone"),
            ),
            (
                *("masks that come late are not told", '        rows["masked"][...] = rows["masked"] or masked\n', ""),
                "test_masks_that_come_too_late_are_refused",
            ),
            (
                *("masks at the reset are not told", 'self.rows["masked"][...] = self.rows["masked"] or masked'),
                *("pass", "test_masks_are_read_from_the_info"),
            ),
        ]
    ),
    *(
        ("10", f"game: {name}", file, old, new, f"cli/test_bad_input.py::{test}")
        for name, file, old, new, test in [
            (
                *("one environment is taken several times", "envs/vector/env_group.py"),
                *("if len({id(env) for env in self.envs}) < len(self.envs):", "if False:"),
                "test_one_environment_given_several_times_is_refused",
            ),
            (
                *(
                    "the last observation may be missing",
                    "envs/vector/env_slot.py",
                    "if agents[j] not in obs:",
                    "if False:",
                ),
                "test_a_time_limit_without_its_last_observation_is_named",
            ),
        ]
    ),
    (
        *("10", "game: the team's reward is not the absent's", "envs/vector/env_slot.py"),
        *(
            "reward[int(before.argmax())] if shared else reward",
            "reward",
            "envs/adapters/test_smac.py::test_in_a_batch",
        ),
    ),
    *(
        ("10", f"seats: {name}", file, old, new, f"envs/vector/test_serial.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "agents in the order of the dict",
                    "envs/vector/team_layout.py",
                    "for j, agent in enumerate(self.agents):",
                ),
                "for j, agent in enumerate(obs):",
                "test_after_reset_there_is_no_reward_no_end_and_next_repeats_the_present",
            ),
            (
                *("masks in the info are lost", "envs/vector/team_layout.py", 'info.get("action_mask")', "None"),
                "test_masks_are_read_from_the_info",
            ),
            (
                *(
                    "masks in the observation are lost",
                    "envs/vector/team_layout.py",
                    'cast(Any, own).get("action_mask", given)',
                ),
                *("given", "test_masks_are_read_from_the_observation"),
            ),
            (
                *("actions count from 0", "core/spec.py", "(*cast(Any, self.start), *(0,) * self.continuous)"),
                *("(0,) * self.size", "test_a_discrete_space_that_starts_elsewhere_is_sent_its_own_numbers"),
            ),
            (
                *("an agent's columns are the first ones", "envs/vector/agent_spaces.py"),
                *("np.array(spec.columns(index), dtype=np.intp)", "np.arange(len(spec.columns(index)))"),
                "test_each_agent_gets_exactly_its_own_action",
            ),
            (
                *(
                    "a mask stands in the first places",
                    "envs/vector/agent_spaces.py",
                    "np.array(spec.choices(index), dtype=np.intp)",
                ),
                "np.arange(len(spec.choices(index)))",
                "test_masks_of_unequal_agents_stand_where_their_own_choices_do",
            ),
            (
                *("the dead must have a choice", "envs/vector/team_layout.py", "if given is not None and active[j]:"),
                *("if given is not None:", "test_the_dead_need_nothing_legal"),
            ),
            (
                *(
                    "numbers leave their bounds",
                    "envs/vector/agent_spaces.py",
                    "own = own.clip(self._acted.low, self._acted.high)",
                ),
                *("pass", "test_numbers_are_clipped_to_their_bounds"),
            ),
            (
                *(
                    "numbers with a point are cut to bytes",
                    "envs/vector/agent_spaces.py",
                    'if self._bytes and x.dtype.kind == "f":',
                ),
                *("if False:", "test_numbers_with_a_point_are_not_cut_to_bytes"),
            ),
            (
                *(
                    "one head's choice is enough for all",
                    "envs/vector/agent_spaces.py",
                    "np.logical_or.reduceat(mask, self._firsts)",
                ),
                *("mask.any(keepdims=True)", "test_masks_that_cannot_be_are_told"),
            ),
            (
                *(
                    "strangers are given something",
                    "envs/vector/team_layout.py",
                    "if not self._names.issuperset(given):",
                ),
                *("if False:", "test_names_that_are_no_agents_are_told"),
            ),
        ]
    ),
    *(
        ("10", f"loop: {name}", file, old, new, f"envs/vector/test_serial.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "the last of an odd number is left out",
                    "envs/vector/env_group.py",
                    "slice(num_envs // 2, num_envs))",
                ),
                "slice(num_envs // 2, num_envs // 2 * 2))",
                "test_mpe2_in_a_batch_is_a_plain_loop_over_single_environments",
            ),
            (
                *(
                    "all of a half do as the first",
                    "envs/vector/env_group.py",
                    "own[j][i - numbers.start]",
                    "own[j][0]",
                ),
                "test_mpe2_in_a_batch_is_a_plain_loop_over_single_environments",
            ),
            (
                *("the next step writes over what was shown", "envs/vector/serial.py"),
                *("torch.from_numpy(self.arrays[name][part].copy())", "torch.from_numpy(self.arrays[name][part])"),
                "test_an_agent_that_dies_is_told_so_once_and_is_then_gone",
            ),
            (
                *(
                    "a reset without a seed is the same game",
                    "envs/vector/serial.py",
                    'self.arrays["episode"][...] += 1',
                ),
                *("pass", "test_first_games_start_from_the_seeds_later_ones_from_what_derives_from_them"),
            ),
            (
                *("a seed does not begin anew", "envs/vector/serial.py", "seeds_of(seed, self.num_envs), 0"),
                'seeds_of(seed, self.num_envs), self.arrays["episode"]',
                "test_first_games_start_from_the_seeds_later_ones_from_what_derives_from_them",
            ),
            (
                *(
                    "an order is warned of at each reset",
                    "envs/vector/serial.py",
                    "return self._resets == 1",
                    "return True",
                ),
                "test_a_state_in_another_order_is_warned_of_once",
            ),
        ]
    ),
    *(
        ("10", f"pool: {name}", file, old, new, f"envs/vector/test_pool.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "a worker shows its environments in the first rows",
                    "envs/vector/env_group.py",
                    "arrays.rows(i)) for",
                ),
                *("arrays.rows(i - self._numbers[0])) for", "test_a_pool_is_the_plain_loop[2-2]"),
            ),
            (
                *("seeds count within a worker", "envs/vector/env_group.py"),
                '        for i, game in self.games.items():\n            self._at(i, "reset")\n',
                "        for k, (i, game) in enumerate(self.games.items()):\n"
                '            self.arrays["seed"][i] = self.arrays["seed"][0] + k\n'
                '            self._at(i, "reset")\n',
                "test_a_pool_is_the_plain_loop[5-3]",
            ),
            (
                *("a worker has environments of one half only", "envs/vector/pool.py"),
                "ranges.append(range(part.start + count * place // workers, part.start + count * (place + 1) // "
                "workers))",
                "ranges.append(range(part.start, part.start + count * (place == 0)))",
                "test_environments_are_dealt_out_evenly",
            ),
            (
                *("both halves are counted from the front", "envs/vector/pool.py"),
                *("workers - 1 - worker if index else worker", "worker", "test_environments_are_dealt_out_evenly"),
            ),
            (
                *("the other half is stepped", "envs/vector/pool.py", "member.order(str(part).encode())"),
                "member.order(str(len(self.parts) - 1 - part).encode())",
                "test_halves_stepped_in_turn_are_the_whole",
            ),
            (
                *("a half is not waited for", "envs/vector/pool.py", "member.pending[0] == part"),
                *("member.pending[-1] == part", "test_halves_stepped_in_turn_are_the_whole"),
            ),
            (
                *("answers are taken for the last half's", "envs/vector/pool.py", "member.pending.popleft()"),
                *("member.pending.pop()", "test_halves_stepped_in_turn_are_the_whole"),
            ),
            (
                *("a lost worker's episodes go on", "envs/vector/pool.py", "= 0, False, True\n", "= 0, False, False\n"),
                "test_a_worker_that_is_lost_is_replaced_and_its_episodes_are_cut_off[die]",
            ),
            (
                *(
                    "a lost worker's episodes are terminated",
                    "envs/vector/pool.py",
                    "= 0, False, True\n",
                    "= 0, True, True\n",
                ),
                "test_a_worker_that_is_lost_is_replaced_and_its_episodes_are_cut_off[die]",
            ),
            (
                *("the last reward is paid again for a lost step", "envs/vector/pool.py", "= 0, False, True\n"),
                "= seen.reward[there], False, True\n",
                "test_a_worker_that_is_lost_is_replaced_and_its_episodes_are_cut_off[die]",
            ),
            (
                *("what was reached is the next episode's first", "envs/vector/pool.py"),
                *('arrays[f"next_{name}"][own] = reached[there].numpy()', "pass"),
                "test_a_worker_that_is_lost_is_replaced_and_its_episodes_are_cut_off[die]",
            ),
            (
                *("what was reached is that of the reset", "envs/vector/pool.py"),
                "        self._seen[part] = self._shown.time_step(self.parts[part])\n        return self._seen[part]\n",
                "        return self._shown.time_step(self.parts[part])\n",
                "test_a_worker_that_is_lost_is_replaced_and_its_episodes_are_cut_off[die]",
            ),
            (
                *("a lost episode is played again", "envs/vector/pool.py", 'arrays["episode"][numbers] += 1', "pass"),
                "test_a_worker_that_is_lost_is_replaced_and_its_episodes_are_cut_off[die]",
            ),
            (
                *("a lost half is told again and again", "envs/vector/pool.py", "member.skipped.remove(part)", "pass"),
                "test_halves_of_a_lost_worker_are_told_once_each[True]",
            ),
            (
                *("a lost half is never told", "envs/vector/pool.py", "member.skipped.add(index)", "pass"),
                "test_halves_of_a_lost_worker_are_told_once_each[True]",
            ),
            (
                *("the half under way is told twice", "envs/vector/pool.py", "if share and index not in under_way:"),
                *("if share:", "test_halves_of_a_lost_worker_are_told_once_each[True]"),
            ),
            (
                *("a worker is replaced for ever", "envs/vector/pool.py", "or member.failures > 3:"),
                *("or member.failures > 30:", "test_a_worker_that_dies_again_and_again_is_given_up"),
            ),
            (
                *(
                    "who was stepped stays busy",
                    "envs/vector/env_group.py",
                    "            self._busy[i] = 0\n\n    def _at",
                ),
                *("\n    def _at", "test_a_worker_that_is_lost_is_named"),
            ),
            (
                *("who is stepped is not busy", "envs/vector/env_group.py", "self._busy[index] = 1", "pass"),
                "test_a_worker_that_is_lost_is_named",
            ),
            (
                *("the time that a worker may take is not heeded", "envs/vector/worker_handle.py"),
                *("self._receive(timeout or self.timeout)", "self._receive(timeout or 2.0)"),
                "test_a_worker_that_is_lost_is_named",
            ),
            (
                *(
                    "a worker that hangs leaves no stack",
                    "envs/vector/worker_handle.py",
                    "self.process.send_signal(signal.SIGUSR1)",
                ),
                *("pass", "test_a_worker_that_is_lost_is_named"),
            ),
            (
                *("workers are loaded with torch", "envs/vector/worker.py", "import pickle\n"),
                "import pickle\n\nimport torch\n",
                "test_workers_load_no_torch_and_have_one_thread_and_a_process_group_of_their_own",
            ),
            (
                *(
                    "workers have many threads",
                    "envs/vector/worker_handle.py",
                    "os.environ | _ONE_THREAD",
                    "os.environ.copy()",
                ),
                "test_workers_load_no_torch_and_have_one_thread_and_a_process_group_of_their_own",
            ),
            (
                *("workers hear Ctrl-C", "envs/vector/worker_handle.py"),
                *("            process_group=0,  # Ctrl-C is for the pool, which tells its workers\n", ""),
                "test_workers_load_no_torch_and_have_one_thread_and_a_process_group_of_their_own",
            ),
            (
                *("workers run the main script again", "envs/vector/pool.py", "cloudpickle.dumps(make)"),
                *("__import__('pickle').dumps(make)", "test_lambdas_and_functions_of_the_main_script_need_no_guard"),
            ),
            (
                *("workers do not leave by themselves", "envs/vector/worker.py", "contextlib.suppress(EOFError, "),
                *("contextlib.suppress(", "test_a_pool_leaves_nothing_behind"),
            ),
            (
                *("the shared memory has a name", "envs/vector/worker_handle.py"),
                'if hasattr(os, "memfd_create"):\n'
                '            self.file: Any = os.fdopen(os.memfd_create("mappo"), "w+b")',
                'if True:\n            self.file: Any = tempfile.NamedTemporaryFile(dir="/dev/shm")',
                "test_a_pool_leaves_nothing_behind",
            ),
            (
                *("an error names no seed", "envs/vector/env_group.py", 'if hasattr(self, "arrays"):', "if False:"),
                "test_an_error_of_the_environment_is_told_with_its_seed_and_traceback",
            ),
            (
                *("warnings stay in the worker", "envs/vector/worker.py", 'pickle.dumps(told) if told else b""', 'b""'),
                "test_warnings_of_an_environment_reach_the_learner",
            ),
            (
                *("one environment has a pool", "envs/from_user.py", "if count and num_envs > 1 and not"),
                *("if count and not", "test_the_number_of_workers_decides_between_loop_and_pool"),
            ),
            (
                *("halves are received in another order than sent", "rollouts/collector.py"),
                *("self._receive(t - 1, index, totals)", "self._receive(t - 1, index - 1, totals)"),
                "test_metrics_are_the_same_for_any_number_of_workers",
            ),
            (
                *("a reset does not wait for steps under way", "envs/vector/pool.py"),
                *("            while member.pending:\n                self._answered(member)\n", ""),
                "test_a_reset_waits_for_what_is_under_way",
            ),
            (
                *("a worker lost at a reset has episodes cut off", "envs/vector/pool.py"),
                "        self._seen = []  # nothing is under way: who is replaced has no episode to be cut off\n",
                *("", "test_a_worker_lost_at_a_reset_begins_episodes_and_cuts_none_off"),
            ),
            (
                *(
                    "what an environment started stays",
                    "envs/vector/worker_handle.py",
                    "os.killpg(self.process.pid, signal.SIGKILL)",
                ),
                *("pass", "test_what_an_environment_started_goes_with_its_worker"),
            ),
            (
                *("workers started before one that cannot be stay", "envs/vector/worker_handle.py"),
                *("        self.process: Any = None  # not started yet\n", ""),
                "test_a_worker_that_cannot_be_started_is_told",
            ),
            (
                *("environments with and without a state share memory", "envs/vector/pool.py"),
                *("not layout.is_like(self._layout)", "False", "test_environments_that_differ_share_no_memory"),
            ),
            (
                *("a closed pool is stepped", "envs/vector/pool.py", "if not self._close.alive:", "if False:"),
                "test_a_closed_pool_says_so",
            ),
            (
                *("actions of a wrong shape broadcast", "envs/vector/serial.py", "if action.shape != chosen.shape:"),
                *("if False:", "test_actions_of_a_wrong_shape_are_refused_by_both"),
            ),
        ]
    ),
    *(
        ("10", f"vmas: {name}", "envs/adapters/vmas.py", old, new, f"envs/adapters/test_vmas.py::{test}")
        for name, old, new, test in [
            (
                "who goes on is looked at again",
                "torch.where(ended.view(-1, 1, 1), self._seen(self._restarted(ended)), obs)",
                *("self._seen(self._restarted(ended))", "test_who_goes_on_keeps_what_it_saw"),
            ),
            (
                *("one end is everyone's", "if len(which) == self.num_envs:", "if which:"),
                "test_a_reset_leaves_other_games_alone[balance]",
            ),
            (
                "next_obs is behind the reset",
                "obs = torch.where(ended.view(-1, 1, 1), self._seen(self._restarted(ended)), obs)",
                "obs[ended] = self._seen(self._restarted(ended))[ended]",
                "test_games_that_end_together_are_reset_together",
            ),
            (
                *("a game draws from the numbers of others", "shared[:] = self._random[: len(shared)]", "pass"),
                "test_the_first_seed_starts_the_stream",
            ),
            (
                *("random numbers stand still", "self._random = [*shared, *self._cuda_random()]", "pass"),
                "test_the_first_seed_starts_the_stream",
            ),
            (
                *("others find their random numbers moved", "shared[:] = others", "pass"),
                "test_it_is_a_loop_over_the_bare_package",
            ),
            (
                *("numbers are not clamped", "clamp_actions=True", "clamp_actions=False"),
                "test_numbers_are_clamped_and_the_senders_tensor_is_left_alone",
            ),
            (
                *("numbers that an agent lacks are sent", "action[:, j, : heads.size]", "action[:, j]"),
                "test_numbers_are_clamped_and_the_senders_tensor_is_left_alone",
            ),
            (
                *("what terminates at the time limit is truncated", "terminated, ended, ended.unsqueeze(1)"),
                "terminated & ~truncated, ended, ended.unsqueeze(1)",
                "test_what_terminates_at_the_time_limit_is_terminated",
            ),
            (
                *("a time limit is an end", "terminated, ended, ended.unsqueeze(1)"),
                *("ended, ended, ended.unsqueeze(1)", "test_games_that_end_together_are_reset_together"),
            ),
            (
                *("a shared reward is the sum", ".mean(1, keepdim=True)", ".sum(1, keepdim=True)"),
                "test_a_shared_reward_is_the_mean_over_agents",
            ),
            (
                *("rewards keep an axis too many", "torch.stack([x.reshape(self.num_envs) for x in rewards], 1)"),
                *("torch.stack(rewards, 1)", "test_rewards_with_an_axis_too_many"),
            ),
            (
                *("the last seed starts the stream", "seed = seed[0]", "seed = seed[-1]"),
                "test_the_first_seed_starts_the_stream",
            ),
            (
                *("the team's reward is never seen to be one", "if any((x != rewards[0]).any() for x in rewards):"),
                *("if True:", "test_whether_the_reward_is_the_teams"),
            ),
        ]
    ),
    *(
        ("10", f"envpool: {name}", "envs/adapters/envpool.py", old, new, f"envs/adapters/test_envpool.py::{test}")
        for name, old, new, test in [
            (
                *("the first action of a game is left out", "if ended.any():", "if False:"),
                "test_it_is_a_loop_over_single_games",
            ),
            (
                *("next_obs is behind the reset", "obs, next_obs = next_obs.clone(), next_obs", "pass"),
                "test_it_is_a_loop_over_single_games",
            ),
            (
                "a new game has the mask of the old one",
                *("obs[which], mask[which] = self._seen(first), _legal(first)", "obs[which] = self._seen(first)"),
                "test_it_is_a_loop_over_single_games",
            ),
            ("a time limit is an end", "ended & ~late", "ended", "test_a_time_limit_is_a_truncation"),
            ("a step too long", ">= self._max_steps\n", "> self._max_steps\n", "test_a_time_limit_is_a_truncation"),
            ("the team is paid for each agent", "shared_reward=True", "shared_reward=False", "test_foraging_is_won"),
            (
                *("seeds are ignored", "            self._start(seeds)\n", ""),
                "test_a_seed_makes_a_game_wherever_it_stands",
            ),
            (
                *("nothing legal is left", "mask | ~mask.any(-1, keepdim=True)", "mask"),
                "test_where_nothing_is_legal_all_is_offered",
            ),
        ]
    ),
    # level-based foraging and the warehouse
    *(
        ("10", name, file, old, new, f"envs/adapters/test_tuple_env.py::{test}")
        for name, file, old, new, test in [
            (
                *("tuples: the time limit stays a termination", "envs/adapters/tuple_env.py"),
                *("finished = over and self._finished()", "finished = over"),
                "test_foraging_is_truncated_at_its_step_limit",
            ),
            (
                *(
                    "tuples: no end of its own",
                    "envs/adapters/lbf.py",
                    "return not self.env.field.any()",
                    "return False",
                ),
                "test_foraging_ends_by_itself_when_no_food_is_left",
            ),
            (
                *(
                    "tuples: what ends at the limit is always cut",
                    "envs/adapters/lbf.py",
                    "return not self.env.field.any()",
                ),
                "return not self.env.field.any() and self.env.current_step < self.env._max_episode_steps",
                "test_food_that_is_loaded_at_the_step_limit_is_an_end_and_no_truncation",
            ),
            (
                *("rware: inactivity is a termination", "envs/adapters/rware.py"),
                "    def _finished(self) -> bool:\n        return False",
                "    def _finished(self) -> bool:\n        return self.env._cur_steps < self.env.max_steps",
                "test_an_episode_of_doing_nothing_is_cut_off_at_the_limit",
            ),
            (
                *("tuples: agents stay after the end", "envs/adapters/tuple_env.py"),
                *("        if over:\n            self.agents = []\n", "", "test_it_is_a_plain_loop_over_the_package"),
            ),
            (
                *("tuples: stepping after the end", "envs/adapters/tuple_env.py"),
                *("        if not names:\n            return {}, {}, {}, {}, {}\n", ""),
                "test_it_is_a_plain_loop_over_the_package",
            ),
            (
                *("tuples: actions in another order", "envs/adapters/tuple_env.py", "for agent in names]"),
                *("for agent in names[::-1]]", "test_it_is_a_plain_loop_over_the_package"),
            ),
            (
                *("tuples: rewards are the sum", "envs/adapters/tuple_env.py"),
                *("dict(zip(names, map(float, rewards), strict=True))", "dict.fromkeys(names, float(sum(rewards)))"),
                "test_each_forager_is_given_its_own_reward",
            ),
            (
                *("tuples: rewards as they come", "envs/adapters/tuple_env.py", "map(float, rewards)", "rewards"),
                "test_robots_are_given_their_own_reward_or_the_teams",
            ),
            (
                *(
                    "tuples: the seed is dropped",
                    "envs/adapters/tuple_env.py",
                    "self.env.reset(seed=seed)",
                    "self.env.reset()",
                ),
                "test_a_seed_means_the_same_game_in_a_used_environment_as_in_a_new_one",
            ),
            (
                *("tuples: always reseeded", "envs/adapters/tuple_env.py", "self.env.reset(seed=seed)"),
                *("self.env.reset(seed=seed or 0)", "test_without_a_seed_the_random_numbers_go_on"),
            ),
            (
                *("lbf: stale player positions", "envs/adapters/lbf.py", "            player.position = None"),
                *("            pass", "test_a_seed_means_the_same_game_in_a_used_environment_as_in_a_new_one"),
            ),
            ("lbf: no masks", "envs/adapters/lbf.py", '{"action_mask": mask}', "{}", "test_masks_of_foraging"),
            (
                *(
                    "lbf: one mask for all",
                    "envs/adapters/lbf.py",
                    "action in own for",
                    "action in next(iter(valid)) for",
                ),
                "test_masks_of_foraging",
            ),
            (
                *(
                    "lbf: masks from the joint actions",
                    "envs/adapters/lbf.py",
                    "valid = self.env._valid_actions.values()",
                ),
                "self.env.get_valid_actions()\n        valid = self.env._valid_actions.values()",
                "test_all_masks_of_foraging_come_without_its_joint_actions",
            ),
            (
                *("lbf: options given to gymnasium's TimeLimit", "envs/adapters/lbf.py", "env = build("),
                "env = gymnasium.make(name, disable_env_checker=True, **options) if options else build(",
                "test_an_episode_of_doing_nothing_is_cut_off_at_the_limit",
            ),
            (
                *("lbf: sight of another size", "envs/adapters/lbf.py", 'int(match["sight"] or size)'),
                *('int(match["sight"] or 2)', "test_names_mean_what_the_packages_registrations_say"),
            ),
            (
                *("lbf: coop is ignored", "envs/adapters/lbf.py", 'bool(match["coop"])', "False"),
                "test_names_mean_what_the_packages_registrations_say",
            ),
            (
                *("lbf: pen is ignored", "envs/adapters/lbf.py", '0.1 if match["pen"] else 0.0', "0.0"),
                "test_foraging_names_beyond_those_registered",
            ),
            (
                *("lbf: ind is ignored", "envs/adapters/lbf.py", '1 if match["ind"] else None', "None"),
                "test_foraging_names_beyond_those_registered",
            ),
            (
                *("lbf: only registered names", "envs/adapters/lbf.py", "if match is None:"),
                *("if match is None or name not in gymnasium.registry:", "test_foraging_names_beyond_those_registered"),
            ),
            (
                *("rware: -hard as easy", "envs/adapters/rware.py", '"-hard": 0.5', '"-hard": 2'),
                "test_names_mean_what_the_packages_registrations_say",
            ),
            (
                *("rware: sizes mixed", "envs/adapters/rware.py", '"medium": (2, 5)', '"medium": (3, 3)'),
                "test_names_mean_what_the_packages_registrations_say",
            ),
            (
                *("rware: north is ignored", "envs/adapters/rware.py", 'not match["north"]', "True"),
                "test_rware_names_beyond_those_registered",
            ),
            (
                *(
                    "rware: imgdict is img",
                    "envs/adapters/rware.py",
                    '"IMAGE_DICT" if "dict" in match["image"] else "IMAGE"',
                ),
                *('"IMAGE"', "test_rware_names_beyond_those_registered"),
            ),
            (
                *(
                    "rware: requests from the robots",
                    "envs/adapters/rware.py",
                    'int(match["requests"] or robots',
                    "int(robots",
                ),
                "test_rware_names_beyond_those_registered",
            ),
            (
                *("rware: height is ignored", "envs/adapters/rware.py", 'int(match["height"] or 8)', "8"),
                "test_rware_names_beyond_those_registered",
            ),
            (
                *("rware: sight is ignored", "envs/adapters/rware.py", 'int(match["sight"] or 1)', "1"),
                "test_rware_names_beyond_those_registered",
            ),
            (
                *(
                    "rware: a global reward is each agent's",
                    "envs/adapters/rware.py",
                    'env.reward_type.name == "GLOBAL"',
                ),
                *("False", "test_rewards_are_shared_only_where_all_are_given_one_number"),
            ),
            (
                *(
                    "rware: all rewards are the team's",
                    "envs/adapters/rware.py",
                    'env.reward_type.name == "GLOBAL"',
                    "True",
                ),
                "test_rewards_are_shared_only_where_all_are_given_one_number",
            ),
            (
                *("tuples: agents are the possible ones", "envs/adapters/tuple_env.py"),
                *("self.agents = self.possible_agents.copy()", "self.agents = self.possible_agents"),
                "test_what_is_given_is_nobody_elses",
            ),
        ]
    ),
    *(
        ("user", name, file, old, new, f"envs/adapters/test_tuple_env.py::{test}")
        for name, file, old, new, test in [
            (
                *("lbf: grids by name", "envs/adapters/lbf.py", 'name.startswith("Foraging-grid")', "False"),
                "test_what_the_user_can_mend",
            ),
            (
                *("lbf: grids by option", "envs/adapters/lbf.py", 'options.get("grid_observation")', "False"),
                "test_what_the_user_can_mend",
            ),
            ("lbf: steps unchecked", "envs/adapters/lbf.py", "or steps < 1", "", "test_what_the_user_can_mend"),
            (
                "lbf: field unchecked",
                "envs/adapters/lbf.py",
                "min(env.field.shape) < 3 or",
                "",
                "test_what_the_user_can_mend",
            ),
            (
                *("lbf: players unchecked", "envs/adapters/lbf.py", "or len(env.players) >= env.field.size", ""),
                "test_what_the_user_can_mend",
            ),
            (
                *("build: unknown options pass", "envs/adapters/tuple_env.py", "if option not in known:", "if False:"),
                "test_what_the_user_can_mend",
            ),
            (
                *("build: values unchecked", "envs/adapters/tuple_env.py"),
                *("except (AssertionError, LookupError, TypeError, ValueError)", "except LookupError"),
                "test_what_the_user_can_mend",
            ),
            (
                *("build: options lose to the name", "envs/adapters/tuple_env.py", "{**settings, **options}"),
                *("{**options, **settings}", "test_an_episode_of_doing_nothing_is_cut_off_at_the_limit"),
            ),
            (
                "near names are lost",
                "envs/adapters/tuple_env.py",
                "cutoff=0.6",
                "cutoff=1.0",
                "test_what_the_user_can_mend",
            ),
            (
                *("a missing package is raw", "envs/adapters/tuple_env.py", "except ImportError as error:"),
                *("except MemoryError as error:", "test_a_missing_package_is_named"),
            ),
            (
                *(
                    "rware: enums by text",
                    "envs/adapters/rware.py",
                    "        if option in chosen:\n",
                    "        if False:\n",
                ),
                "test_robots_are_given_their_own_reward_or_the_teams",
            ),
            (
                *(
                    "rware: layers by text",
                    "envs/adapters/rware.py",
                    'if "image_observation_layers" in chosen:',
                    "if False:",
                ),
                "test_what_robots_observe_is_read_by_the_vectoriser",
            ),
            (
                *("rware: endless", "envs/adapters/rware.py", "if not env.max_steps and not env.max_inactivity_steps:"),
                *("if False:", "test_what_the_user_can_mend"),
            ),
            (
                *(
                    "rware: no requests",
                    "envs/adapters/rware.py",
                    "if not 0 < env.request_queue_size < shelves or",
                    "if",
                ),
                "test_what_the_user_can_mend",
            ),
        ]
    ),
    *(
        ("draw", name, file, old, new, f"envs/adapters/test_tuple_env.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "the window of another is cleared",
                    "envs/adapters/tuple_env.py",
                    "            viewer.window.switch_to()\n",
                    "",
                ),
                "test_pictures_are_drawn_without_a_display_and_of_each_game_alone",
            ),
            (
                *("a display is needed", "envs/adapters/tuple_env.py", '["headless"] = sys.platform == "linux"'),
                *('["headless"] = False', "test_pictures_are_drawn_without_a_display_and_of_each_game_alone"),
            ),
            (
                *("what is missing is raw", "envs/adapters/tuple_env.py", "except Exception as error:"),
                *("except MemoryError as error:", "test_what_cannot_be_drawn_says_what_it_needs"),
            ),
        ]
    ),
    # StarCraft
    *(
        ("10", name, file, old, new, f"envs/adapters/test_smac.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "smac: a limit is a termination",
                    "envs/adapters/smac_env.py",
                    "cut = crashed or (late and not decided)",
                ),
                *("cut = crashed", "test_the_step_limit_is_a_truncation_whether_or_not_the_game_tells"),
            ),
            (
                *("smac: the limit is read from the info", "envs/adapters/smac_env.py"),
                *("late = self._steps >= self.episode_limit", 'late = info.get("episode_limit", False)'),
                "test_the_step_limit_is_a_truncation_whether_or_not_the_game_tells",
            ),
            (
                *(
                    "smac: decided at the limit is cut",
                    "envs/adapters/smac_env.py",
                    'decided = info.get("battle_won") or',
                ),
                *("decided =", "test_a_battle_decided_at_the_very_limit_is_over_by_itself"),
            ),
            (
                *(
                    "smac: a medic's loss is cut",
                    "envs/adapters/smac_env.py",
                    ' or getattr(self.game, "defeat_counted", False)',
                ),
                *("", "test_a_battle_lost_with_a_medic_alive_is_lost_at_the_limit_too"),
            ),
            (
                *(
                    "smac: the dead are cut off too",
                    "envs/adapters/smac_env.py",
                    "{a: cut and a in alive for a in acted}",
                ),
                *("{a: cut for a in acted}", "test_it_is_a_plain_loop_over_the_game"),
            ),
            (
                *("smac: the dead do not end", "envs/adapters/smac_env.py"),
                *("{a: (over and not cut) or a not in alive for a in acted}", "{a: over and not cut for a in acted}"),
                "test_who_died_is_off_the_list_and_sends_the_no_op",
            ),
            (
                *("smac: the dead stay", "envs/adapters/smac_env.py", "[a for a in acted if a in alive]", "acted"),
                "test_who_died_is_off_the_list_and_sends_the_no_op",
            ),
            (
                *("smac: the dead stop", "envs/adapters/smac_env.py", "if a in acted else 0 for a"),
                *("if a in acted else 1 for a", "test_who_died_is_off_the_list_and_sends_the_no_op"),
            ),
            (
                *("smac: numpy's ints", "envs/adapters/smac_env.py", "[int(actions[a]) if", "[actions[a] if"),
                "test_it_is_a_plain_loop_over_the_game",
            ),
            (
                *("smac: a crash is a defeat", "envs/adapters/smac_env.py", "crashed = bool(terminated) and not info"),
                *("crashed = False", "test_a_crash_of_starcraft_is_a_truncation_and_shows_what_was_seen_last"),
            ),
            (
                *("smac: a second StarCraft", "envs/adapters/smac_env.py", "            self.game.close()  # with"),
                *("            pass  # with", "test_starcraft_is_started_once_however_often_a_first_battle_is_left"),
            ),
            (
                *("smac: StarCraft closed each time", "envs/adapters/smac_env.py"),
                *('and getattr(self.game, "_episode_count", None) == 0', ""),
                "test_starcraft_is_started_once_however_often_a_first_battle_is_left",
            ),
            (
                *("smac: reset's answer is read", "envs/adapters/smac_env.py"),
                *("self.game.reset(seed=seed) if self._takes_seed else self.game.reset()", "_, _ = self.game.reset()"),
                "test_what_reset_returns_is_not_read",
            ),
            (
                *("smac: the clock runs on", "envs/adapters/smac_env.py", "self._launched, self._steps = True, 0"),
                *("self._launched = True", "test_it_is_a_plain_loop_over_the_game"),
            ),
            ("smac: each is paid", "envs/adapters/smac_env.py", "    shared_reward = True\n", "", "test_in_a_batch"),
            (
                "smac: no masks",
                "envs/adapters/smac_env.py",
                '{**told, "action_mask": mask}',
                "{**told}",
                "test_in_a_batch",
            ),
            (
                *("smac: nothing is told", "envs/adapters/smac_env.py", '{**told, "action_mask": mask}'),
                *('{"action_mask": mask}', "test_it_is_a_plain_loop_over_the_game"),
            ),
            (
                *("smac: the later limit", "envs/adapters/smac_env.py", "min(limits)\n", "max(limits)\n"),
                "test_a_limit_may_be_given_where_there_is_none_or_a_later_one",
            ),
            (
                *(
                    "smac: the game's own end alone",
                    "envs/adapters/smac_env.py",
                    "over = bool(terminated or late or not alive)",
                ),
                *("over = bool(terminated)", "test_smaclite_is_cut_at_the_limit_and_starts_the_same_from_a_seed"),
            ),
            (
                *(
                    "smac: limits unchecked",
                    "envs/adapters/smac_env.py",
                    "if not limits or min(limits) < 1:",
                    "if not limits:",
                ),
                "test_a_limit_may_be_given_where_there_is_none_or_a_later_one",
            ),
            (
                *("smaclite: the state of the last battle", "envs/adapters/smac.py"),
                *("        self.env.last_actions = np.zeros_like(self.env.last_actions)\n", ""),
                "test_smaclite_is_cut_at_the_limit_and_starts_the_same_from_a_seed",
            ),
            (
                *(
                    "smaclite: the seed is dropped",
                    "envs/adapters/smac.py",
                    "self.env.reset(seed=seed)",
                    "self.env.reset()",
                ),
                "test_smaclite_is_cut_at_the_limit_and_starts_the_same_from_a_seed",
            ),
            (
                *("smaclite: it prints", "envs/adapters/smac.py", "with contextlib.redirect_stdout(io.StringIO()):"),
                *("with contextlib.nullcontext(io.StringIO()):", "test_smaclite_by_name"),
            ),
            (
                *("smacv2: writes into the user's options", "envs/adapters/smac.py", "copy.deepcopy(dict(options))"),
                *("dict(options)", "test_smacv2_leaves_the_users_options_alone"),
            ),
            (
                "smacv2: numbers are ignored",
                "envs/adapters/smac.py",
                'int(match["ours"] or 5)',
                "5",
                "test_smacv2_by_name",
            ),
            (
                *(
                    "workers load torch",
                    "envs/adapters/tuple_env.py",
                    "import numpy as np\n",
                    "import numpy as np\nimport torch\n",
                ),
                "test_workers_need_no_torch",
            ),
            (
                *("smac: what was given is written over", "envs/adapters/smac_env.py"),
                "self._state = np.array(self.game.get_state(), dtype=np.float32)",
                "self._state = getattr(self, '_state', np.zeros(self.state_space.shape, np.float32))\n"
                "        self._state[:] = self.game.get_state()",
                "test_nothing_given_is_written_over",
            ),
        ]
    ),
    *(
        ("user", name, file, old, new, f"envs/adapters/test_smac.py::{test}")
        for name, file, old, new, test in [
            (
                *("smaclite: its limit is no option", "envs/adapters/smac.py"),
                *('chosen.pop("episode_limit", EPISODE_LIMITS.get(name))', "EPISODE_LIMITS.get(name)"),
                "test_smaclite_by_name",
            ),
            (
                *("smacv2: any option", "envs/adapters/smac.py", "        parameters_of=package.StarCraft2Env,\n", ""),
                "test_smacv2_by_name",
            ),
            (
                *("smac: the binary is not looked for", "envs/adapters/smac.py"),
                *('    _check_starcraft(f"smac/{name}", name, options.get("game_version"))\n', "", "test_smac_by_name"),
            ),
            (
                *(
                    "smac: the map is not looked for",
                    "envs/adapters/smac.py",
                    "        config.map_data(",
                    "        id(",
                ),
                "test_smac_by_name",
            ),
            (
                *("smac: a missing package is raw", "envs/adapters/smac.py", "except (ImportError, TypeError)"),
                *("except TypeError", "test_what_is_missing_is_named"),
            ),
            (
                *(
                    "smac: protobuf is raw",
                    "envs/adapters/smac.py",
                    "except (ImportError, TypeError)",
                    "except ImportError",
                ),
                "test_another_protobuf_than_asked_for_is_the_users_to_mend",
            ),
        ]
    ),
    (
        *("draw", "smac: no render", "envs/adapters/smac_env.py", "        if draw is None:\n", "        if False:\n"),
        "envs/adapters/test_smac.py::test_pictures",
    ),
    # packages of PettingZoo's API
    *(
        ("10", f"zoo: {name}", "envs/adapters/pettingzoo.py", old, new, f"envs/adapters/test_pettingzoo.py::{test}")
        for name, old, new, test in [
            (
                *("a fallen walker has no state", "        _keep_state(env)\n", ""),
                "test_a_walker_that_fell_leaves_zeros_in_the_state",
            ),
            (
                *("zombies come by the clock of the last game", "        _begin_anew(env)\n", "        pass\n"),
                "test_zombies_come_at_the_same_time_whatever_was_played_before",
            ),
            (
                *("multiwalker's limit is an end", 'return TimeLimit(env, options.get("max_cycles", 500), cuts=False)'),
                *("return env", "test_the_limit_of_multiwalker_becomes_a_truncation_to_the_trainer"),
            ),
            (
                *("multiwalker's limit is always 500", 'options.get("max_cycles", 500)', "500"),
                "test_the_limit_of_multiwalker_becomes_a_truncation_to_the_trainer",
            ),
            (
                *("who plays by the picture sees black", "if render or blind else None", "if render else None"),
                "test_who_plays_by_the_picture_sees_it_change",
            ),
            (
                *("spread is the team's", 'return options.get("local_ratio", 0.5) == 0', "return True"),
                "test_each_plays[mpe2/simple_reference_v3-{}]",
            ),
            ("walkers always share", 'bool(options.get("shared_reward", True))', "True", "test_each_plays"),
            (
                *("a robot's reward is counted for each part", 'family == "mamujoco" or base in always'),
                *("base in always", "test_each_plays[mamujoco/HalfCheetah-2x3-{}]"),
            ),
            (
                *("all rewards are the team's", 'family == "mamujoco" or base in always', "True"),
                "test_each_plays[mpe2/simple_adversary_v3-{}]",
            ),
            (
                *("formations are paid twice", '"simple_formation", "simple_line"', '"simple_line"'),
                "test_each_plays[mpe2/simple_formation_v1-{}]",
            ),
            (
                *("MuJoCo leaves a log", "    mujoco.set_mju_user_warning(str)  # takes it, and does nothing\n", ""),
                "test_mujoco_leaves_no_log_behind",
            ),
            (
                *("pygame's driver is not the user's", 'os.environ.setdefault("SDL_VIDEODRIVER", "dummy")'),
                *('os.environ["SDL_VIDEODRIVER"] = "dummy"', "test_what_the_user_set_for_pictures_stays"),
            ),
            (
                *("EGL is asked for where there is none", ' and ctypes.util.find_library("EGL")', ""),
                "test_what_the_user_set_for_pictures_stays",
            ),
            (
                *("segments are not counted", " and _SEGMENTS.fullmatch(name))", ' and name.startswith("Many"))'),
                "test_what_users_get_wrong",
            ),
        ]
    ),
    *(
        ("user", f"zoo: {name}", "envs/adapters/pettingzoo.py", old, new, f"envs/adapters/test_pettingzoo.py::{test}")
        for name, old, new, test in [
            ("unknown options pass", "if taken and (unknown", "if not taken and (unknown", "test_what_users_get_wrong"),
            ("pursuit takes any option", '"pursuit_v5": "_env", ', "", "test_what_users_get_wrong"),
            (
                *("rewards of magent2 are unknown", '*getattr(own, "default_reward_args", {}), ', ""),
                "test_what_users_get_wrong",
            ),
        ]
    ),
    *(
        ("10", f"time limit: {name}", "envs/vector/time_limit.py", old, new, f"envs/vector/test_time_limit.py::{test}")
        for name, old, new, test in [
            (
                *("it is told at each later step too", "if self._steps != self.limit or"),
                *("if self._steps < self.limit or", "test_a_limit_that_does_not_cut_leaves_what_goes_on"),
            ),
            (
                *("who observed nothing is cut off", "(self.cuts or ends.get(a)) and a in obs"),
                *("(self.cuts or ends.get(a))", "test_who_observes_nothing_at_the_limit_stays_terminated"),
            ),
            (
                *("who did not act is cut off", "for a in before if", "for a in self.possible_agents if"),
                "test_a_limit_that_cuts_ends_the_episode_for_all_with_what_they_observe",
            ),
            (
                *("agents stay behind it", "        self._cut = self.cuts\n", ""),
                "test_a_limit_that_cuts_ends_the_episode_for_all_with_what_they_observe",
            ),
            (
                *("steps are counted over all episodes", "        self._steps, self._cut = 0, False\n        # Env"),
                *("        self._cut = False\n        # Env", "test_each_episode_is_counted_from_its_reset"),
            ),
            (
                *("an end at the limit stays one", "{**ends, **dict.fromkeys(over, False)}", "ends"),
                "test_an_end_at_the_limit_is_a_truncation_and_an_earlier_death_stays_one",
            ),
            (
                *("the seed is dropped", "self.env.reset(seed=seed) if options is None"),
                *("self.env.reset() if options is None", "test_everything_else_is_the_environments_own"),
            ),
            (
                *("options must be known", "if options is None else", "if False else"),
                "test_options_of_a_reset_are_passed_on_where_there_are_any",
            ),
            (
                "it cannot be copied",
                '        if name == "env":  # not there yet, while a copy is made\n'
                "            raise AttributeError(name)\n",
                *("", "test_everything_else_is_the_environments_own"),
            ),
        ]
    ),
    # mappo check
    *(
        ("checker", name, file, old, new, f"envs/check/test_checker.py::{test}")
        for name, file, old, new, test in [
            (
                *("foreign memory is held", "envs/check/random_play.py", " if _numpys(leaf)]", "]"),
                "test_a_view_of_foreign_memory_is_not_held",
            ),
            (
                *("what was returned is held for ever", "envs/check/random_play.py", "self._held = []", "pass"),
                "test_what_was_returned_is_looked_at_once_more_and_no_longer",
            ),
            (
                *("masks of the last step are read", "envs/check/random_play.py"),
                *("            if agent in now and not ended:", "            if agent in now:"),
                "test_each_bug_alone_is_named[not-emptied-StaysListed]",
            ),
            (
                *("actions are illegal", "envs/check/random_play.py"),
                *("np.arange(size) if mask is None else mask[start : start + size].nonzero()[0]", "np.arange(size)"),
                "test_actions_are_legal_and_all_that_is_legal_is_tried",
            ),
            (
                *("each head has the first one's mask", "envs/check/random_play.py", "            start += size\n", ""),
                "test_actions_are_legal_and_all_that_is_legal_is_tried",
            ),
            (
                *(
                    "nobody arrives",
                    "envs/check/random_play.py",
                    "any(a not in alive or a in over for a in now)",
                    "False",
                ),
                "test_who_comes_late_or_again_is_no_violation",
            ),
            (
                *("an episode ends where agents is empty", "envs/check/random_play.py"),
                *("ended = not [a for a in env.agents if a not in over]", "ended = not env.agents"),
                "test_each_bug_alone_is_named[not-emptied-StaysListed]",
            ),
            (
                *("a termination is a truncation", "envs/check/random_play.py"),
                *("any(cuts.get(a) and not ends.get(a) for a in over)", "any(cuts.get(a) for a in over)"),
                "test_who_is_terminated_and_truncated_is_terminated",
            ),
            (
                *("actions are compared with themselves", "envs/check/random_play.py", "sent = copy.deepcopy(actions)"),
                *("sent = actions", "test_each_bug_alone_is_named[action-changed-TakesActions]"),
            ),
            (
                *("the order in the state is not looked at", "envs/check/random_play.py"),
                *("not self.notes.step and alive == self.possible", "False"),
                "test_each_bug_alone_is_named[state-order-StateBackwards]",
            ),
            (
                *("the state's shape may change", "envs/check/random_play.py"),
                "self.state_shape = state.shape if self.state_shape is None else self.state_shape",
                *("self.state_shape = state.shape", "test_each_bug_alone_is_named[state-shape-StateOfTheLiving]"),
            ),
            (
                *(
                    "rewards seem equal",
                    "envs/check/random_play.py",
                    "report.equal_rewards &= len(different) < 2",
                    "pass",
                ),
                "test_a_good_environment_has_nothing_wrong_and_is_described",
            ),
            (
                *("nothing that is observed seems to change", "envs/check/random_play.py"),
                *("seen.setdefault(agent, set()).add(x)", "pass"),
                "test_a_good_environment_has_nothing_wrong_and_is_described",
            ),
            (
                *("two side by side are not tried", "envs/check/determinism.py"),
                *("    if all(alike) and len(envs) > 1:\n        _alike(notes, trace, envs)\n", ""),
                "test_each_bug_alone_is_named[entangled-GlobalChance]",
            ),
            (
                *("one fault is told as two", "envs/check/determinism.py", "if all(alike) and len(envs) > 1:"),
                *("if len(envs) > 1:", "test_each_bug_alone_is_named[seed-steps-CarriesOn]"),
            ),
            (
                *("nothing is closed", "envs/check/determinism.py", 'notes.call("close", close)', "pass"),
                "test_each_bug_alone_is_named[raised-RaisesAtClose]",
            ),
            (
                *("observations may go another way", "envs/check/determinism.py", "for d in dicts if a in d]"),
                *("for d in dicts[1:] if a in d]", "test_each_bug_alone_is_named[seed-reset-SeedIgnored]"),
            ),
            (
                *("one step looks like a time limit", "envs/check/checker.py", "lengths[0] > 1 and ", ""),
                "test_one_episode_or_episodes_of_one_step_look_like_no_time_limit",
            ),
            (
                *("one episode looks like a time limit", "envs/check/checker.py", "if count > 1 and len(set"),
                *("if count > 0 and len(set", "test_one_episode_or_episodes_of_one_step_look_like_no_time_limit"),
            ),
            (
                *("truncations look like a time limit called an end", "envs/check/checker.py"),
                *(' and notes.report.endings["terminated"] == count', "", "test_the_time_limit_that_is_advised_helps"),
            ),
            (
                *("a state still is told beside observations still", "envs/check/checker.py"),
                *("    elif longer and player.has_state", "    if longer and player.has_state"),
                "test_where_nothing_is_observed_to_change_the_state_need_not",
            ),
            (
                *("endless episodes are played on", "envs/check/checker.py"),
                *('            if "never-ends" in notes.found:\n                break\n', ""),
                "test_one_episode_without_an_end_is_enough",
            ),
            (
                *("repetitions count for the speed", "envs/check/checker.py"),
                *("notes.report.wall_s, notes.report.cpu_s = spent\n", "pass\n"),
                "test_only_the_episodes_count_for_the_speed",
            ),
            (
                *("advice is taken for a fault", "envs/check/checker.py", "    except UserError:\n        raise\n", ""),
                "test_a_function_that_fails_is_reported_and_its_user_error_passed_on",
            ),
            (
                *("the checker's own lines are told", "envs/check/recorder.py", " if not is_ours(f.filename)]"),
                *("]", "test_an_exception_is_told_with_the_lines_of_the_users_code"),
            ),
            (
                *("how often is not counted", "envs/check/recorder.py", "self.found[finding.code].times += 1", "pass"),
                "test_each_rule_is_told_once_with_how_often_it_was_broken",
            ),
            (
                *("pay of a team behind a death is lost", "envs/check/rules.py", "if pay != 0 and not shared"),
                *("if pay != 0", "test_each_bug_alone_is_named[given-after-end-PaysTheTeam]"),
            ),
            (
                *("who has no flags is told twice", "envs/check/rules.py"),
                *("        elif a not in now and a not in over:", "        if a not in now and a not in over:"),
                "test_each_bug_alone_is_named[no-flags-FlagsNobody]",
            ),
            (
                *("who stays at the end lives on", "envs/check/rules.py"),
                *('code = "not-emptied" if ended else "over-but-listed"', 'code = "over-but-listed"'),
                "test_each_bug_alone_is_named[not-emptied-StaysListed]",
            ),
            (
                *("the mask is part of what is observed", "envs/check/spaces.py", ' if k != "action_mask"}', "}"),
                "test_a_mask_may_stand_beside_the_observation[True]",
            ),
            (
                *(
                    "a mask of heads is refused",
                    "envs/check/spaces.py",
                    "if sizes not in (tuple(heads), (sum(heads),))",
                ),
                *("if sizes != (sum(heads),)", "test_actions_are_legal_and_all_that_is_legal_is_tried"),
            ),
            (
                *("one head's choice is enough for all", "envs/check/spaces.py", "mask[end - size : end].any()"),
                *("mask.any()", "test_something_is_legal_for_each_choice"),
            ),
            (
                *("a pool for what was not timed", "envs/check/report.py"),
                "if cores > 1 and 0 < steps_per_second < _POOL_BELOW",
                *("if cores > 1 and steps_per_second < _POOL_BELOW", "test_a_pool_is_advised_where_it_pays"),
            ),
        ]
    ),
    (
        *("checker", "an end is a death", "envs/check/random_play.py", "report.deaths |= not ended and any"),
        *(
            "report.deaths |= any",
            "envs/adapters/test_pettingzoo.py::test_the_checker_finds_them_sound[mpe2/simple_speaker_listener_v4-{}]",
        ),
    ),
    # names
    (
        *("runs", "trainer: a function is taken for the environment of its name", "envs/from_user.py"),
        *('return "custom/" + re', "return re"),
        "training/test_train.py::test_a_function_called_as_an_environment_is_not_taken_for_it",
    ),
]

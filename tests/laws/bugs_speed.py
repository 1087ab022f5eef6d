"""Bugs of what is recorded for a GPU, as rows of `bugs.Bug`: law, name, file, old, new, tests."""

RECORDED = [
    ("graphs", name, file, old, new, f"backend/test_cuda_graphs.py::{test}")
    for name, file, old, new, test in [
        (
            *(
                "rates are those of the recording",
                "algorithms/optimizer.py",
                "if recorded else value",
                "if False else value",
            ),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *("the entropy weight is that of the recording", "algorithms/mappo.py"),
            *("self._gradient_step(part, self.entropy_weight)", "self._gradient_step(part, now['entropy_weight'])"),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *(
                "minibatches are those of the recording",
                "backend/cuda_graphs.py",
                "            kept.copy_(given)\n",
                "            pass\n",
            ),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *("games go on from where the recording began", "rollouts/graphed.py"),
            *("            self._still.settle()\n            return totals", "            return totals"),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *("all phases are one", "rollouts/graphed.py"),
            *("phase = tuple(env.phase for env in self._envs)", "phase = (0,)"),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *("the phase stands still", "rollouts/graphed.py", "env.phase = now", "pass"),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *("games' random numbers are those of the recording", "rollouts/graphed.py"),
            *("Recorded(work, self._generators)", "Recorded(work)"),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *("what was loaded is not looked at", "rollouts/graphed.py"),
            *("        self._still.settle()  # others may have reset or loaded them\n", ""),
            "test_what_is_loaded_is_what_goes_on",
        ),
        (
            *("loaded moments lie elsewhere", "algorithms/optimizer.py"),
            "own[key] = own.get(key, torch.empty_like(x, device=parameter.device)).copy_(x)",
            "own[key] = x.clone()",
            "test_what_is_loaded_is_what_goes_on",
        ),
        (
            *("values are asked for where episodes ended", "algorithms/critic.py"),
            *("if not recordable(value.device):", "if True:"),
            "test_recorded_training_is_the_training_that_is_recorded",
        ),
        (
            *("an update is that of another rollout", "backend/cuda_graphs.py", " or self._rollout is not rollout", ""),
            "test_a_rollout_of_ones_own_each_time_is_learned_from_as_it_comes",
        ),
        (
            *(
                "the KL is not asked for",
                "config/config.py",
                "self.run.graphs and self.ppo.target_kl is None",
                "self.run.graphs",
            ),
            "test_a_kl_that_ends_an_update_is_asked_for",
        ),
        (
            *(
                "names of one tensor stay one",
                "backend/cuda_graphs.py",
                "self._kept[path] = now.clone()",
                "self._kept[path] = now",
            ),
            "test_tensors_with_two_names_are_kept_apart",
        ),
        (
            *("who changes places is overwritten", "backend/cuda_graphs.py"),
            *("(self._kept[path], now.clone())", "(self._kept[path], now)"),
            "test_tensors_that_change_places_are_both_kept",
        ),
    ]
]

PRODUCTS = [
    ("products", name, file, old, new, tests)
    for name, file, old, new, tests in [
        (
            *("acting depends on how many act", "backend/matmul.py", "        and not _acting.get()\n", ""),
            "backend/test_matmul.py::test_what_a_policy_answers_does_not_depend_on_how_many_ask",
        ),
        (
            *(
                "pieces of odd sizes",
                "algorithms/minibatch.py",
                "size += -size % IMAGES if size > IMAGES else 0",
                "size += 0",
            ),
            "backend/test_matmul.py::test_pieces_are_all_there_and_can_be_convolved",
        ),
        (
            *("pieces of the critic weigh as those of the actor", "algorithms/loss.py"),
            *("_share(batch.value_weight, of.value_weight)", "_share(batch.weight, of.weight)"),
            "algorithms/test_multi_seed.py::test_a_minibatch_in_pieces_is_the_minibatch",
        ),
        (
            *(
                "told again at each evaluation",
                "training/diagnostics.py",
                "if self._timed or elapsed < SOON",
                "if elapsed < SOON",
            ),
            "training/test_diagnostics.py::test_evaluations_that_take_most_of_the_time_are_told_once",
        ),
        (
            *("each seed is told to take memory while it waits", "training/preflight.py"),
            *("at_once >= IN_TURN else config.run.seeds", "at_once < 0 else config.run.seeds"),
            "training/test_preflight.py::test_seeds_that_learn_in_turn_share_what_learning_takes",
        ),
        (
            *(
                "float64 is convolved",
                "backend/matmul.py",
                "        and x.dtype == weight.dtype == torch.float32\n",
                "",
            ),
            "backend/test_matmul.py::test_what_does_not_pay_or_must_not_differ_is_multiplied_as_ever",
        ),
        (
            *("bf16 is convolved", "backend/matmul.py", '        and not torch.is_autocast_enabled("cpu")\n', ""),
            "backend/test_matmul.py::test_what_does_not_pay_or_must_not_differ_is_multiplied_as_ever",
        ),
        (
            *("groups share the first's matrix", "backend/matmul.py", "affine(*of) for of in zip(x, weight, bias"),
            "affine(of[0], weight[0], of[2]) for of in zip(x, weight, bias",
            "backend/test_matmul.py::test_groups_have_a_matrix_each",
        ),
        (
            *(
                "any processor's",
                "backend/matmul.py",
                'for name in ("AMD ", "AuthenticAMD"))',
                'for name in ("A", ""))',
            ),
            "backend/test_matmul.py::test_the_processors_maker_decides",
        ),
        (
            *("pieces weigh alike, whoever acts in them", "algorithms/loss.py"),
            *("weight.sum() / of.sum()", "(weight * 0 + 1).sum() / (of * 0 + 1).sum()"),
            "algorithms/test_multi_seed.py::test_a_minibatch_in_pieces_is_the_minibatch",
        ),
        (
            *(
                "in turn all seeds read the first's rows",
                "algorithms/multi_seed.py",
                "lambda x, k=k: x[k]",
                "lambda x: x[0]",
            ),
            "algorithms/test_multi_seed.py::test_each_seed_learns_what_it_learns_alone",
        ),
    ]
]

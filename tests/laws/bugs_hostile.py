"""The bugs that environments which misbehave would meet, as rows of `bugs.py`."""

# law, name, file, old, new, tests
HOSTILE: list[tuple[str, str, str, str, str, str]] = [
    *(
        ("hostile", name, file, old, new, f"stress/test_hostile.py::{test}")
        for name, file, old, new, test in [
            (
                *("a close is waited for for ever", "system/shutdown.py", "with limit:", "with nullcontext():"),
                "test_a_close_that_fails_costs_nothing_that_was_done",
            ),
            (
                *("what a close raises ends the run", "system/shutdown.py", "except BaseException as error:"),
                *("except ImportError as error:", "test_a_close_that_fails_costs_nothing_that_was_done"),
            ),
            (
                *("a check waits for a close", "envs/check/determinism.py", "with closing.limit:", "if True:"),
                "test_a_check_names_a_close_that_hangs",
            ),
            (
                *("compiled code is waited for", "cli/signals.py", "os._exit(MEND)", "pass"),
                "test_a_close_that_cannot_be_interrupted_ends_the_program",
            ),
            (
                *(
                    "the program waits for threads",
                    "cli/main.py",
                    'closing.end_within(ENDING, code, "mappo: ")',
                    "pass",
                ),
                "test_threads_that_an_environment_leaves_do_not_keep_the_program",
            ),
            (
                *("workers wait for threads", "envs/vector/worker.py", "    end_within(1.0, 0)\n", ""),
                "test_a_worker_leaves_whatever_threads_there_are",
            ),
            (
                *("who is killed as it closes is not named", "envs/vector/pool.py", "if stuck := self._close():"),
                *("if (stuck := self._close()) and False:", "test_a_worker_whose_close_hangs_is_killed_and_named"),
            ),
            (
                *(
                    "an evaluation in training hears no signal",
                    "training/session.py",
                    "track.agent.actor(), self._games, self.stop)",
                ),
                *("track.agent.actor(), self._games)", "test_a_signal_ends_an_evaluation_within_training"),
            ),
            (
                *("a score hears no SIGTERM", "cli/signals.py"),
                *("signal.signal(number, _stop)", "number == signal.SIGINT and signal.signal(number, _stop)"),
                "test_a_signal_ends_a_score[15-2]",
            ),
            (
                *("baselines hear no signal", "training/session.py", "self.name, self._games, self.stop)"),
                *("self.name, self._games)", "test_the_baselines_of_a_run_that_is_complete_are_not_waited_for"),
            ),
            (
                *(
                    "replays have no end",
                    "evaluation/episodes.py",
                    "for _ in range(MAX_DRAWN):",
                    "for _ in range(2000):",
                ),
                "test_a_replay_of_a_game_that_goes_on_shows_its_beginning",
            ),
            (
                *("who raises a BaseException ends the worker", "envs/vector/env_group.py"),
                "if error is None or isinstance(error, UserError):",
                "if not isinstance(error, Exception) or isinstance(error, UserError):",
                "test_whatever_an_environment_raises_is_told_from_its_first_line_on_and_the_run_saved",
            ),
            (
                *(
                    "Ctrl-C is blamed on the environment",
                    "envs/vector/env_group.py",
                    "is not signal.SIG_IGN:",
                    "is signal.SIG_IGN:",
                ),
                "test_an_interrupt_in_this_process_may_be_the_users_and_passes_with_the_run_saved",
            ),
            (
                *("an interrupted run is not saved", "training/session.py", "view.note(self._kept().strip())", "pass"),
                "test_an_interrupt_in_this_process_may_be_the_users_and_passes_with_the_run_saved[1000]",
            ),
            (
                *(
                    "an interrupted evaluation costs its update",
                    "training/session.py",
                    "(UserError, StopTraining, KeyboardInterrupt)",
                ),
                *("(UserError, StopTraining)",),
                "test_an_interrupt_in_this_process_may_be_the_users_and_passes_with_the_run_saved[8]",
            ),
            (
                *(
                    "lines of ours begin a traceback",
                    "system/tracebacks.py",
                    "while frames and is_ours(frames[0].filename):",
                ),
                "while False:",
                "test_whatever_an_environment_raises_is_told_from_its_first_line_on_and_the_run_saved",
            ),
            (
                *("lines of ours are left out everywhere", "system/tracebacks.py", "frames = list(part.stack)"),
                "frames = [f for f in part.stack if not is_ours(f.filename)]",
                "test_lines_of_ours_between_theirs_stay",
            ),
            (
                *(
                    "causes begin with lines of ours",
                    "system/tracebacks.py",
                    "for part in _chain(shown):",
                    "for part in [shown]:",
                ),
                "test_a_cause_begins_with_the_users_line_too",
            ),
            (
                *("bugs of ours have no lines", "system/tracebacks.py", "if frames:  # else", "if True:  # else"),
                "test_an_error_of_ours_alone_keeps_its_lines",
            ),
            (
                *(
                    "what is drawn may be anything",
                    "evaluation/score_run.py",
                    "    except ValueError as error:\n        raise UserError(f",
                ),
                *(
                    "    except ImportError as error:\n        raise UserError(f",
                    "test_pictures_that_are_none_are_told",
                ),
            ),
            (
                *("prints mix with the output", "system/streams.py", "os.dup2(2, 1)", "pass"),
                "test_what_they_print_stays_out_of_standard_output",
            ),
            (
                *("a closed stream is a traceback", "system/streams.py", "if getattr(sys, name) is None:", "if False:"),
                "test_streams_may_be_closed",
            ),
        ]
    ),
    *(
        ("hostile", name, file, old, new, f"envs/test_user_code.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "parameters without a value are called",
                    "envs/user_code.py",
                    "    check_given(name, taken, options, hidden)\n",
                ),
                *("", "test_parameters_that_nobody_gives_are_named"),
            ),
            (
                *(
                    "None is an environment",
                    "envs/vector/env_group.py",
                    "if any(env is None for env in self.envs):",
                    "if False:",
                ),
                "test_a_function_that_returns_nothing_is_told_so",
            ),
        ]
    ),
    *(
        ("hostile", name, file, old, new, f"envs/vector/test_pool.py::{test}")
        for name, file, old, new, test in [
            (
                *("who is lost at the start ends the pool", "envs/vector/pool.py"),
                *("[self._first_layout(member) for", "[member.layout() for"),
                "test_a_worker_that_is_lost_as_the_pool_starts_is_replaced",
            ),
            (
                *(
                    "what fails as it is made ends the pool",
                    "envs/vector/worker_handle.py",
                    "if isinstance(answer, FailedError):",
                ),
                *("if False:", "test_a_worker_that_is_lost_as_the_pool_starts_is_replaced"),
            ),
            (
                *("a message cut short is a traceback", "envs/vector/worker_handle.py", "except (EOFError, OSError):"),
                *("except (EOFError, ConnectionResetError):", "test_a_worker_that_dies_within_a_message_is_named"),
            ),
            (
                *(
                    "a replacement without a process is a traceback",
                    "envs/vector/pool.py",
                    "(LostError, UserError, OSError) as",
                ),
                *("(LostError, UserError) as", "test_a_replacement_that_cannot_be_started_counts"),
            ),
        ]
    ),
    *(
        ("hostile", name, "training/diagnostics.py", old, new, f"training/test_diagnostics.py::{test}")
        for name, old, new, test in [
            (
                *("steps skipped are not counted", "if skipped or infinite else 0", "if infinite else 0"),
                "test_so_many_in_a_row_are_enough_and_others_between_are_not",
            ),
            (
                *("advantages lost are not counted", "if skipped or infinite else 0", "if skipped else 0"),
                "test_so_many_in_a_row_are_enough_and_others_between_are_not",
            ),
            (
                *(
                    "updates are not in a row",
                    "if skipped or infinite else 0",
                    "if skipped or infinite else self._empty",
                ),
                "test_so_many_in_a_row_are_enough_and_others_between_are_not",
            ),
            (
                *("returns that are alike are an overflow", "and not abs(metrics", "or not abs(metrics"),
                "test_what_still_teaches_something_goes_on",
            ),
            (
                *("the absent are looked at", "torch.where(there, rollout.obs, 0)", "rollout.obs"),
                "test_large_observations_are_told_at_the_first_rollout",
            ),
        ]
    ),
    *(
        ("hostile", name, file, old, new, f"envs/check/test_checker.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "a check does not go on to be timed",
                    "envs/check/checker.py",
                    "report.cpu_s < seconds and",
                    "False and",
                ),
                "test_episodes_too_short_to_be_timed_are_followed_by_others",
            ),
            (
                *(
                    "what is fast is timed for ever",
                    "envs/check/checker.py",
                    "report.steps < _TIMED and",
                    "report.steps < 9999 and",
                ),
                "test_what_takes_no_time_and_what_waits_is_not_played_for_ever",
            ),
            (
                *("what is wrong is timed", "envs/check/checker.py", "while report.ok and", "while"),
                "test_what_is_wrong_is_not_timed",
            ),
            (
                *(
                    "two limits around one object are two",
                    "envs/check/determinism.py",
                    "return env.env if isinstance(env, TimeLimit)",
                ),
                *("return env if isinstance(env, TimeLimit)", "test_a_check_may_have_a_time_limit"),
            ),
        ]
    ),
    (
        *("hostile", "torch out of memory is a traceback", "cli/main.py"),
        'texts = ("DefaultCPUAllocator: ", "Storage',
        'texts = ("Storage',
        "cli/test_main.py::test_a_rollout_larger_than_any_memory_is_told",
    ),
    (
        *("hostile", "a device out of memory is a traceback", "cli/main.py", '== "OutOfMemoryError"', '== ""'),
        "cli/test_main.py::test_out_of_memory_is_told_apart_from_bugs",
    ),
    (
        *(
            "hostile",
            "types in config.json are not looked at",
            "runs/spec_json.py",
            "    if not fits or",
            "    if False or",
        ),
        "runs/test_checkpoint.py::test_a_config_of_other_types_is_told_by_name",
    ),
]

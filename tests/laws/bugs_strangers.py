"""The bugs that strangers' files, signals and numbers that are not finite would meet, as rows of `bugs.py`."""

# law, name, file, old, new, tests
STRANGERS: list[tuple[str, str, str, str, str, str]] = [
    *(
        ("stopping", name, file, old, new, f"cli/test_stopping.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "a closed terminal is not heard",
                    "cli/signals.py",
                    '("SIGINT", "SIGTERM", "SIGHUP")',
                    '("SIGINT", "SIGTERM")',
                ),
                "test_a_closed_terminal_saves_and_leaves",
            ),
            (
                *(
                    "nohup is not heeded",
                    "cli/signals.py",
                    "if n != HANGUP or signal.getsignal(n) is not signal.SIG_IGN]",
                ),
                *("]", "test_a_closed_terminal_saves_and_leaves"),
            ),
            (
                *("a terminal that is gone is an error", "system/stdio.py", "(errno.EPIPE, errno.EIO)", "()"),
                "test_a_stream_outlasts_its_reader",
            ),
            (
                *(
                    "a live view ends with its terminal",
                    "training/live_view.py",
                    "except (OSError, SystemExit):",
                    "except ImportError:",
                ),
                "test_a_live_view_outlasts_its_terminal",
            ),
            (
                *("sent twice is twice", "cli/signals.py", "AT_ONCE, GRACE, DEAF = 0.3,", "AT_ONCE, GRACE, DEAF = -1,"),
                "test_a_signal_that_comes_twice_at_once_is_one",
            ),
            (
                *(
                    "what hangs is waited for",
                    "cli/signals.py",
                    "            raise Stopped(self.caught)\n",
                    "            pass\n",
                ),
                "test_an_environment_that_hangs_is_left_and_what_was_learned_is_saved",
            ),
            (
                *(
                    "compiled code is never left",
                    "cli/signals.py",
                    "            os._exit(128 + heard[0])",
                    "            pass",
                ),
                "test_a_second_control_c_leaves_at_once_whatever_does_not_listen",
            ),
            (
                *("time has no limit", "training/train.py", "time.monotonic() >= end", "False"),
                "test_a_time_limit_saves_and_leaves_with_3_and_may_be_another_when_it_goes_on",
            ),
            (
                *(
                    "an evaluation has no limit",
                    "training/session.py",
                    "                if self.stop is not None:\n",
                    "                if False:\n",
                ),
                "test_a_time_limit_saves_and_leaves_with_3_and_may_be_another_when_it_goes_on",
            ),
        ]
    ),
    *(
        ("not finite", name, file, old, new, f"rollouts/test_nonfinite.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "who skips moves its statistics",
                    "algorithms/multi_seed.py",
                    "again=[not goes for goes in going])",
                    "again=[False] * count)",
                ),
                "test_one_seed_that_skips_leaves_the_others_as_they_would_be",
            ),
            (
                *(
                    "who skips learns from another's",
                    "algorithms/multi_seed.py",
                    "going = [not skips for skips in skip] or [True] * len(self.agents)",
                ),
                *("going = [True] * len(self.agents)", "test_one_seed_that_skips_leaves_the_others_as_they_would_be"),
            ),
            (
                *(
                    "NaN is remembered",
                    "rollouts/collector.py",
                    "self.memory.masked_fill_(~self.memory.isfinite()",
                    "(~self.memory.isfinite()",
                ),
                "test_what_is_not_finite_is_forgotten",
            ),
            (
                *("NaN outlives its episode", "rollouts/collector.py", "running.masked_fill_(ended.unsqueeze(-1), 0)"),
                *("running *= ~ended.unsqueeze(-1)", "test_a_return_that_is_none_ends_with_its_episode"),
            ),
            (
                *(
                    "the schedule of who skips stands still",
                    "algorithms/skipping.py",
                    "    for agent in agents:\n        agent.updates += 1\n",
                ),
                *("    pass\n", "test_what_an_update_tells_is_known_before_the_first"),
            ),
            (
                *(
                    "stop does not stop",
                    "training/diagnostics.py",
                    'if self.config.run.on_nonfinite == "stop":',
                    "if False:",
                ),
                "test_a_gradient_is_skipped_and_traced_or_ends_the_run",
            ),
            (
                *("advice without end", "training/diagnostics.py", "or self._advised", ""),
                "test_a_policy_that_moves_far_is_told_once",
            ),
        ]
    ),
    *(
        ("strangers", name, file, old, new, f"runs/test_untrusted_files.py::{test}")
        for name, file, old, new, test in [
            (
                *("links are followed", "runs/directory.py", "    check_plain(path)\n", ""),
                "test_what_is_no_file",
            ),
            (
                *("files have no bound", "system/safe_read.py", "and found.st_size <= most", ""),
                "test_a_file_is_read_up_to_its_bound",
            ),
            (
                *("pipes are waited for", "system/safe_read.py", "if stat.S_ISREG(found.st_mode) and", "if"),
                "test_what_is_no_file_is_no_config",
            ),
            (
                *("names are given twice", "system/safe_read.py", "if len(found) < len(pairs):", "if False:"),
                "test_strict_json",
            ),
            (
                *(
                    "whatever has digits is pruned",
                    "runs/checkpoint.py",
                    "if _STEP.fullmatch(path.name) and path.is_dir()",
                    "if path.is_dir()",
                ),
                "test_what_is_no_checkpoint_stays_beside_them",
            ),
            (
                *(
                    "moments of any shape",
                    "training/seed_run.py",
                    "if difference := misfit(own,",
                    "if False and misfit(own,",
                ),
                "test_tensors_that_do_not_fit",
            ),
            (
                *("episodes of any shape", "rollouts/collector.py", "if difference := misfit(state, wanted, spare):"),
                *("if difference := '':", "test_tensors_that_do_not_fit"),
            ),
            (
                *(
                    "the actor is made first",
                    "deploy/load.py",
                    "if difference := misfit(weights, wanted):",
                    "if difference := '':",
                ),
                "test_tensors_that_do_not_fit",
            ),
            (
                *("files name code", "evaluation/score_run.py", "if envs.is_code(name) and not allowed:", "if False:"),
                "test_no_file_names_code",
            ),
            (
                *("formulas are set", "evaluation/curve.py", "size=13, parse_math=False)", "size=13)"),
                "test_what_is_shown_is_spelled_out",
            ),
            (
                *(
                    "letters move the cursor",
                    "training/progress.py",
                    "console.print(printable(text),",
                    "console.print(text,",
                ),
                "test_what_is_shown_is_spelled_out",
            ),
            (
                *("choices without end", "runs/spec_json.py", "if choices > MOST_CHOICES:", "if False:"),
                "test_what_a_config_may_say",
            ),
        ]
    ),
    (
        *(
            "versions",
            "any format is read",
            "runs/directory.py",
            "if told == FORMAT and type(told) is int:",
            "if told:",
        ),
        "runs/test_versions.py::test_another_format_is_told_with_what_to_do",
    ),
    (
        *("versions", "an attribute is a section", "config/config.py"),
        "if section not in (f.name for f in dataclasses.fields(config)):",
        "if not hasattr(config, section):",
        "config/test_config.py::test_what_is_unknown_or_of_a_wrong_type_is_named",
    ),
]

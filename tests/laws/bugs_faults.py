"""The bugs by which a run would be lost or a damaged file trusted, as rows of `bugs.py`."""

# law, name, file, old, new, tests
FAULTS: list[tuple[str, str, str, str, str, str]] = [
    *(
        ("faults", name, file, old, new, f"runs/test_checkpoint.py::{test}")
        for name, file, old, new, test in [
            (
                *("another run's checkpoint is trusted", "runs/checkpoint.py"),
                *("if run is not None and state.get", "if False and state.get"),
                "test_a_checkpoint_of_another_step_or_run_is_damage",
            ),
            (
                *("a renamed checkpoint is trusted", "runs/checkpoint.py"),
                *(' and path.name == f"{step:012d}"):', "):"),
                "test_a_checkpoint_of_another_step_or_run_is_damage",
            ),
            (
                *("a run is where it lies", "runs/directory.py", "config.get(section, {}).pop(name, None)", "pass"),
                "test_a_checkpoint_of_another_step_or_run_is_damage",
            ),
            (
                *("none of every so many steps is kept", "runs/checkpoint.py"),
                *("kept |= {found for part, found in first.items() if part}", "pass"),
                "test_the_first_in_each_so_many_steps_is_kept",
            ),
            (
                *("what never was is kept", "runs/checkpoint.py"),
                *("for path in _steps(folder) if int(path.name) <= step]", "for path in _steps(folder)]"),
                "test_a_damaged_checkpoint_that_a_run_was_rewound_past_is_dropped",
            ),
            (
                *("any folder is a checkpoint", "runs/checkpoint.py"),
                *("if _STEP.fullmatch(path.name) and path.is_dir()]", "if path.is_dir()]"),
                "test_folders_that_are_no_steps_are_left_alone",
            ),
            (
                *(
                    "older runs have no best",
                    "runs/checkpoint.py",
                    "return int(best) if _STEP.fullmatch(best)",
                    "return None if _STEP.fullmatch(best)",
                ),
                "test_older_runs_keep_the_best_in_a_file[False]",
            ),
            (
                *(
                    "a best one that never was",
                    "runs/checkpoint.py",
                    ' and int(best) <= state["step"] else None',
                    " else None",
                ),
                "test_older_runs_keep_the_best_in_a_file[True]",
            ),
            (
                *("a best one that is gone is waited for", "runs/checkpoint.py"),
                *('(found.path.parent / f"{best:012d}").is_dir()', "True"),
                "test_a_best_one_that_is_gone_is_told_and_looked_for_anew",
            ),
            (
                *("what is passed over is not told", "deploy/load.py"),
                *("for problem in found.passed_over:", "for problem in ():"),
                "test_what_is_passed_over_is_told_to_whoever_asks_for_the_policy",
            ),
            (
                *("a changed config is resumed", "runs/directory.py", 'if "id" in data and', "if False and"),
                "test_a_config_that_was_changed_is_not_resumed_unnoticed",
            ),
            (
                *(
                    "half a run is in the way",
                    "runs/directory.py",
                    "for left in (*path.iterdir(), path):",
                    "for left in ():",
                ),
                "test_a_run_whose_config_cannot_be_written_is_not_begun",
            ),
            (
                *("a seed alone is to be resumed", "system/files.py", 'if run.name.startswith("seed-")', "if False"),
                "test_what_to_do_is_told_for_what_is_there",
            ),
            (
                *(
                    "what is not there is to be resumed",
                    "system/files.py",
                    'if any(run.glob("checkpoints/[0-9]*")):',
                    "if True:",
                ),
                "test_what_to_do_is_told_for_what_is_there",
            ),
        ]
    ),
    *(
        ("faults", name, file, old, new, f"runs/test_logger.py::{test}")
        for name, file, old, new, test in [
            (
                *(
                    "rows of a time that never was stay",
                    "runs/csv_log.py",
                    'if int(counts["step"]) > step:',
                    "if False:",
                ),
                "test_resume_drops_later_rows_and_a_half_written_one",
            ),
            (
                *(
                    "half a row is a row",
                    "runs/csv_log.py",
                    'text.split("\\n")[:-1]',
                    'text.rstrip("\\n").split("\\n")',
                ),
                "test_resume_drops_later_rows_and_a_half_written_one",
            ),
            (
                *("missing rows are not told", "runs/csv_log.py", "if n not in rows]:", "if False]:"),
                "test_rows_that_are_missing_or_double_are_told_and_what_is_there_is_kept",
            ),
            (
                *("double rows stay", "runs/csv_log.py", "rows[update] = line", "rows[update + number * 1000] = line"),
                "test_rows_that_are_missing_or_double_are_told_and_what_is_there_is_kept",
            ),
            (
                *("double rows are not told", "runs/csv_log.py", "double.append(update)", "pass"),
                "test_rows_that_are_missing_or_double_are_told_and_what_is_there_is_kept",
            ),
            (
                *(
                    "TensorBoard ends the run",
                    "runs/tensorboard.py",
                    "except OSError as error:",
                    "except ImportError as error:",
                ),
                "test_events_that_cannot_be_written_are_told_once_and_cost_nothing_else",
            ),
            (
                *("a clock set back hides events", "runs/tensorboard.py", "number = max(", "number = min("),
                "test_a_clock_that_was_set_back_does_not_hide_what_is_new",
            ),
            (
                *("a row that is not written is a traceback", "runs/csv_log.py"),
                'except OSError as error:\n            raise UserError(f"could not write',
                'except ImportError as error:\n            raise UserError(f"could not write',
                "test_a_row_that_cannot_be_written_is_told_in_one_sentence",
            ),
        ]
    ),
    *(
        ("faults", name, file, old, new, f"stress/test_faults.py::{test}")
        for name, file, old, new, test in [
            (
                *("the best is known too late", "runs/checkpoint.py", '{"best_step": best, ', '{"best_step": None, '),
                "test_a_run_killed_behind_the_rename_keeps_the_best",
            ),
            (
                *("rows are not flushed", "training/seed_run.py", "self.logger.flush()", "pass"),
                "test_rows_are_on_the_disk_before_the_checkpoint_that_counts_them",
            ),
            (
                *(
                    "a clock that stands still ends the run",
                    "training/session.py",
                    "elapsed if elapsed > 0 else math.nan",
                    "elapsed",
                ),
                "test_clocks_that_jump_change_nothing_but_the_times[still]",
            ),
            (
                *("a curve that is not drawn ends the run", "training/session.py"),
                *("except (OSError, ValueError) as error:  # such", "except ImportError as error:  # such"),
                "test_whatever_fails_is_told_once_and_the_run_goes_on_as_it_was",
            ),
            (
                *(
                    "what a kill left stays",
                    "runs/checkpoint.py",
                    'for left in folder.glob(".*.tmp"):',
                    "for left in ():",
                ),
                "test_a_run_killed_at_any_operation_is_the_run_that_was_not",
            ),
            (
                *("a checkpoint grows where it will be", "runs/checkpoint.py"),
                *('temporary = folder / f".{final.name}.tmp"', "temporary = final"),
                "test_a_run_killed_at_any_operation_is_the_run_that_was_not",
            ),
            (
                *(
                    "a sum is not looked at",
                    "runs/checkpoint.py",
                    'if _digest(file) != state["sha256"].get(file.name):',
                    "if False:",
                ),
                "test_every_damage_to_a_checkpoint_is_noticed_and_the_one_before_used",
            ),
        ]
    ),
    (
        *(
            "faults",
            "some seeds without a checkpoint",
            "training/seed_run.py",
            "if any(begun) and not all(begun):",
            "if False:",
        ),
        "training/test_seed_runs.py::test_where_the_process_died_between_two_saves_all_go_back_to_the_step_that_all_have",
    ),
    (
        *("faults", "some seeds with a checkpoint", "runs/directory.py", "saved = all(any(", "saved = any(any("),
        "training/test_seed_runs.py::test_where_the_process_died_between_two_saves_all_go_back_to_the_step_that_all_have",
    ),
]

"""The `mappo` program: runs a command, prints its messages and returns its exit code.

Exit codes: 0 done, 2 an error for the user to correct, 3 stopped and resumable, 4 another process of the run is lost,
129, 130 and 143 for SIGHUP, SIGINT and SIGTERM. The commands import torch only when they run.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from mappo.cli import commands
from mappo.cli.close_limit import LimitedClose
from mappo.cli.continuing import has_nothing_left, resumed_settings, trained_settings
from mappo.cli.ending import end_training
from mappo.cli.launch import LOST, launch, parse_once
from mappo.cli.results import print_score, program_name
from mappo.cli.scoring import note_missing_original, note_progress, score_together
from mappo.cli.signals import DONE, STOPPED, USER_ERROR, Signals, Stopped, start_listening, stop_listening
from mappo.config import Config
from mappo.errors import ElsewhereError, LostError, UserError
from mappo.system import hardware
from mappo.system.launched import exits_as_done, find_place, is_launched, silence_torch, stop_with_launcher
from mappo.system.safe_read import printable
from mappo.system.shutdown import CloseLimit, exit_past_compiled_calls, exit_within
from mappo.system.stdio import env_output_to_stderr, prepare_streams, say, warn_in_one_line

# Seconds for closing an environment (a worker pool takes 5 by its own clock), and for the program to end.
CLOSING = 8.0
ENDING = 5.0
_TRAINING = {"train", "resume", "sweep", "reproduce"}  # commands that save checkpoints


def entry() -> None:
    """Run the `mappo` program and exit."""
    prepare_streams()
    hardware.let_idle_threads_sleep()
    silence_torch()
    warn_in_one_line()
    start_listening()
    stop_with_launcher()
    code = 1  # exit code of an unforeseen error
    try:
        code = main(sys.argv[1:], LimitedClose(CLOSING) if hasattr(signal, "setitimer") else nullcontext)
    finally:
        stop_listening()
        exit_within(ENDING, code, "mappo: ")
    exit_past_compiled_calls(code)
    sys.exit(code)


def main(args: Sequence[str], close_limit: CloseLimit = nullcontext) -> int:
    """Run a command and return its exit code; print a message for an error of the user.

    Args:
        args: words of the command line, without the name of the program.
        close_limit: context for closing environments.
    """
    try:
        code = _dispatch(args, close_limit)
        sys.stdout.flush()
        return code
    except ElsewhereError:
        return USER_ERROR
    except (UserError, LostError) as error:
        if str(error):
            say(f"mappo: {printable(str(error))}", sys.stderr)
        return LOST if isinstance(error, LostError) else USER_ERROR
    except Stopped as stop:
        say("mappo: stopped", sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:  # signals raise `Stopped`, so the environment raised
        say("mappo: stopped by a KeyboardInterrupt of the environment", sys.stderr)
        return USER_ERROR
    except BrokenPipeError:  # the reader left, as in `mappo evaluate RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # such as a full disk, or a directory without permission
        saved = "; checkpoints saved before are whole" if _TRAINING.intersection(args[:1]) else ""
        say(f"mappo: {printable(str(error))}{saved}", sys.stderr)
        return USER_ERROR
    except (MemoryError, RuntimeError) as error:
        if not hardware.is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2] or type(error).__name__
        advice = "fewer environments or episodes, shorter rollouts or a smaller network need less"
        say(f"mappo: out of memory ({reason}): {advice}", sys.stderr)
        return USER_ERROR
    except SystemExit as stop:  # tyro has printed its help or an error
        return stop.code if isinstance(stop.code, int) else USER_ERROR


def _dispatch(args: Sequence[str], close_limit: CloseLimit) -> int:
    try:
        return _run(parse_once(args), close_limit, args)
    except Exception as error:
        if Stopped.raised:  # compiled code may replace the exception by an error of its own
            raise Stopped(Stopped.raised) from error
        raise


def _run(command: Any, close_limit: CloseLimit, args: Sequence[str]) -> int:
    """Run a command, parsed from `args`, and return its exit code."""
    match command:
        case commands.Train():
            return _train(command.env, trained_settings(command), False, close_limit, args)
        case commands.Resume():
            return _train(*resumed_settings(command), True, close_limit, args)
        case commands.Evaluate():
            return _evaluate(command, close_limit)
        case commands.Play():
            return _play(command, close_limit)
        case _:
            return _run_elsewhere(command, close_limit)


def _run_elsewhere(command: Any, close_limit: CloseLimit) -> int:
    """Run a command of another module, imported only now, and return its exit code."""
    match command:
        case commands.Sweep():
            from mappo.cli.sweep_results import sweep_and_show

            return sweep_and_show(command, close_limit)
        case commands.Export():
            from mappo.cli.export_results import export_and_show

            return DONE if export_and_show(command, close_limit) else USER_ERROR
        case commands.Check() | commands.Envs():
            from mappo.cli.env_commands import check_and_show, show_environments

            show: Any = check_and_show if isinstance(command, commands.Check) else show_environments
            return DONE if show(command, close_limit) else USER_ERROR
        case commands.Compare() | commands.Runs():
            from mappo.cli.compare_results import show_comparison, show_runs

            is_whole = show_comparison(command) if isinstance(command, commands.Compare) else show_runs(command)
            return DONE if is_whole else USER_ERROR
        case commands.Report():
            from mappo.experiments.report.report import report

            print(report(command.runs, command.out))
            return DONE
        case commands.Reproduce():
            from mappo.cli.reproduce_results import list_or_reproduce

            return list_or_reproduce(command, close_limit)
        case commands.Bench():
            from mappo.experiments.bench import run_benchmark

            run_benchmark(command.device, command.num_envs, command.threads, command.rounds)
            return DONE
        case _:
            raise TypeError(f"not a command: {command}")


def _train(env: str, config: Config, resume: bool, close_limit: CloseLimit, args: Sequence[str]) -> int:
    """Train and, if the run is complete in time, show its score."""
    is_continued = resume or config.run.exists == "resume"
    if is_continued and not is_launched() and has_nothing_left(env, config, close_limit):
        return DONE
    if config.run.processes > 1 and not is_launched():
        return launch(args, env, config, resume, close_limit)
    from mappo.training.train import train

    place = find_place()
    hardware.keep_freed_memory()
    if not place.rank:
        note_missing_original(env, config)
    program = program_name()  # relative to the folder that the user types commands in
    started = time.monotonic()
    with Signals(close_limit) as signals:
        run = train(env, config, stop=signals, resume=resume)
        scored = score_together(run, place, signals) if run.finished and config.run.seeds == 1 else None
    if place.rank or (place.size > 1 and config.run.seeds > 1 and run.finished):
        code = DONE if run.finished else STOPPED
        code = 128 + signals.caught if signals.caught else code
    else:
        code = end_training(run, scored, signals, started, program)
    return DONE if code >= STOPPED and exits_as_done() else code


def _evaluate(command: commands.Evaluate, close_limit: CloseLimit) -> int:
    from mappo.evaluation.progress import progress_notes
    from mappo.evaluation.score_run import evaluate_run

    with env_output_to_stderr():
        on_step = progress_notes("score", note_progress)
        result = evaluate_run(command.run, command, close_limit=close_limit, on_step=on_step)
    print(json.dumps(result)) if command.json else print_score(result)
    return DONE


def _play(command: commands.Play, close_limit: CloseLimit) -> int:
    from mappo.evaluation.progress import progress_notes
    from mappo.evaluation.replay_file import replay_path
    from mappo.evaluation.score_run import draw_replay

    if not 0 <= command.seed < 2**63:
        raise UserError(f"seed must be at least 0 and below 2^63, got {command.seed}")
    with env_output_to_stderr():
        path = draw_replay(
            command.run,
            replace(command, out=replay_path(command.run, command.out)),
            close_limit=close_limit,
            on_step=progress_notes("replay", note_progress),
        )
    print(path)
    return DONE

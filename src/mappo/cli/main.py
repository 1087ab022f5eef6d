"""The command line. Knows options, messages and exit codes; the work is done below.

Exit codes: 0 done, 2 the user can mend it, 3 stopped and resumable, 129, 130 and 143 for SIGHUP, SIGINT and SIGTERM.
"""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from mappo.cli.commands import Bench, Check, Envs, Evaluate, Play, Resume, Train, parse
from mappo.cli.results import print_score, program_name, show_result
from mappo.cli.signals import USER_ERROR, Patience, Signals, Stopped, start_listening, stop_listening
from mappo.config import Config, EnvConfig
from mappo.envs import is_code
from mappo.errors import UserError
from mappo.system import hardware, shutdown
from mappo.system.safe_read import printable
from mappo.system.stdio import env_output_to_stderr, prepare_streams, warn_in_one_line

DONE, STOPPED = 0, 3
# Seconds that an environment may take to be closed (a worker pool takes 5 by its own clock), and the program to end.
CLOSING, ENDING = 8.0, 5.0


def entry() -> None:
    """The `mappo` program."""
    prepare_streams()
    warn_in_one_line()
    start_listening()
    if hasattr(signal, "pthread_kill"):
        shutdown.limit = Patience(CLOSING)
    code = 1  # of an error that nobody foresaw
    try:
        code = main(sys.argv[1:])
    finally:
        stop_listening()
        shutdown.exit_within(ENDING, code, "mappo: ")
    sys.exit(code)


def main(args: Sequence[str]) -> int:
    """Runs one command and returns its exit code; prints one message for what the user can mend."""
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"mappo: {printable(str(error))}", file=sys.stderr)
        return USER_ERROR
    except Stopped as stop:
        print("mappo: stopped", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:  # none of ours: `Stopped` is what the signals raise
        print("mappo: stopped by a KeyboardInterrupt that the environment raised", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:  # the reader left, as in `mappo evaluate RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # a full disk, a directory that may not be written
        kept = "; checkpoints saved before are whole" if args[:1] in (["train"], ["resume"]) else ""
        print(f"mappo: {printable(str(error))}{kept}", file=sys.stderr)
        return USER_ERROR
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        told = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2] or type(error).__name__
        less = "fewer environments or games, shorter rollouts or a smaller network need less"
        print(f"mappo: out of memory ({told}): {less}", file=sys.stderr)
        return USER_ERROR
    except SystemExit as stop:  # tyro has printed its help or its box
        return stop.code if isinstance(stop.code, int) else USER_ERROR


def _dispatch(args: Sequence[str]) -> int:
    try:
        return _run(parse(list(args)))
    except Exception as error:
        if Stopped.heard:  # in compiled code, which took it for a failure
            raise Stopped(Stopped.heard) from error
        raise


def _out_of_memory(error: Exception) -> bool:
    """torch has an error of its own for devices, and for the CPU a text; it is not loaded here."""
    texts = ("DefaultCPUAllocator: ", "Storage size calculation overflowed", "CUDA error: out of memory")
    named = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or named or any(text in str(error) for text in texts)


def _run(command: Any) -> int:
    if isinstance(command, Train):
        return _train(command.env, command.config, command.resume)
    if isinstance(command, Resume):
        from mappo.evaluation.score_run import check_code
        from mappo.runs.directory import read_run

        env, config, _ = read_run(command.run)
        if env.startswith("custom/"):
            raise UserError(
                f"{env} is an environment of yours: mappo.train(make_env, config, resume=True) goes on with it"
            )
        check_code(env, command.allow_code)
        limit = config.run.time_limit if command.time_limit is None else command.time_limit or None
        where = replace(config.run, name=None, dir=str(command.run), progress=command.progress, time_limit=limit)
        return _train(env, replace(config, run=where), resume=True)
    if isinstance(command, Evaluate):
        return _evaluate(command)
    if isinstance(command, Check):
        from mappo.cli.env_commands import check_environment
        from mappo.envs.check.checker import show

        config = EnvConfig(options=command.options, time_limit=command.time_limit)
        with env_output_to_stderr():
            report = check_environment(command.env, command.episodes, command.seed, config)
        show(report)
        return DONE if report.ok else USER_ERROR
    if isinstance(command, Envs):
        from mappo.cli.env_commands import show_environments

        show_environments(command.family)
        return DONE
    if isinstance(command, Bench):
        from mappo.experiments.bench import run_benchmark

        hardware.keep_freed_memory()  # as in training
        run_benchmark(command.device, command.num_envs, command.threads, command.rounds)
        return DONE
    return _play(command)


def _train(env: str, config: Config, resume: bool) -> int:
    from mappo.training.train import train

    hardware.keep_freed_memory()
    started = time.monotonic()
    with Signals() as signals:
        if hasattr(signal, "setitimer"):
            shutdown.waiting = signals.waiting
        try:
            run = train(env, config, stop=signals.check, resume=resume)
        finally:
            shutdown.waiting = nullcontext
    if not run.finished:
        trust = " --allow-code" if is_code(run.env) else ""
        print(
            f"Stopped at step {run.step:,}{'' if signals.caught else ' by run.time-limit'} and saved.  Go on with:  "
            f"{program_name()} resume {shlex.quote(str(run.path))}{trust}"
        )
        return 128 + signals.caught if signals.caught else STOPPED
    if signals.caught:
        print(f"Finished and saved in {run.path}, and not scored: stopped")
        return 128 + signals.caught
    limit = run.config.run.time_limit
    if limit is not None and time.monotonic() - started >= 60 * limit:
        print(f"Finished and saved in {run.path}, and not scored: run.time-limit is over")
        return DONE
    try:
        show_result(run)
    except Stopped:
        print(
            f"The run is complete, in {run.path}; "
            f"score it with:  {program_name()} evaluate {shlex.quote(str(run.path))}"
        )
        raise
    return DONE


def _evaluate(command: Evaluate) -> int:
    from mappo.evaluation.score_run import evaluate_run

    with env_output_to_stderr():
        result = evaluate_run(
            command.run,
            command.episodes,
            on=command.on,
            checkpoint=command.checkpoint,
            sampled=command.sampled,
            workers=command.workers,
            allow_code=command.allow_code,
        )
    if command.json:
        print(json.dumps(result))
    else:
        print_score(result)
    return DONE


def _play(command: Play) -> int:
    from mappo.evaluation.score_run import draw_replay

    if not 0 <= command.seed < 2**63:
        raise UserError(f"seed must be at least 0 and below 2^63, got {command.seed}")
    with env_output_to_stderr():
        path = draw_replay(command.run, command.episodes, command.seed, command.checkpoint, command.allow_code)
    print(path)
    return DONE

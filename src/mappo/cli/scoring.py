"""The score of a complete run, by this process or by all processes of the run. Loads no torch before it is called."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mappo.cli.signals import Signals
from mappo.config import Config
from mappo.config.presets import original_of
from mappo.envs.names import missing_original
from mappo.errors import StopTraining, UserError
from mappo.evaluation.options import EvaluateOptions
from mappo.system.launched import Place
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import say

# Seconds for the first process to draw the learning curve, while the others wait for it.
CURVE_S = 120.0


@dataclass(frozen=True)
class Scored:
    """Score of a complete run.

    Args:
        result: see `evaluate_run`.
        package: package of the environment, if the run was trained in its twin.
        episodes: episodes asked for.
    """

    result: dict[str, Any]
    package: str | None
    episodes: int


def note_progress(text: str) -> None:
    """Print a line about the progress, apart from the results."""
    say(text, sys.stderr)


def note_missing_original(env: str, config: Config) -> None:
    """Tell ahead of a training that it will be scored on a twin, because the original package is missing."""
    missing = missing_original(env)
    if missing and config.run.score_episodes != 0:
        say(f"mappo: {missing}. Without the package the run is scored on the built-in {env}, its twin", sys.stderr)


def twin_package(run: Any) -> str | None:
    """Return the package of which the run's environment is a twin; None without a twin, or without the package."""
    original = original_of(run.env)
    return original.partition("/")[0] if original and not missing_original(run.env) else None


def score_complete(
    run: Any,
    close_limit: CloseLimit,
    ranks: Any = None,
    stop: Callable[[], None] | None = None,
    workers: int | None = None,
) -> Scored | None:
    """Score a run, on the original package if known; return None if `run.score_episodes` is 0.

    Args:
        run, close_limit, workers: a complete `Run`; see `closing` and `EvaluateOptions`.
        ranks: `Ranks` of processes among which the episodes are dealt out; by default this process plays all.
        stop: called at each step; may raise.
    """
    from mappo.backend.ranks import ALONE
    from mappo.evaluation.episodes import NO_BUDGET, SCORE_BUDGET
    from mappo.evaluation.progress import progress_notes
    from mappo.evaluation.score_run import evaluate_run
    from mappo.evaluation.shared_run import shared_run

    settings = run.config.run
    ranks = ranks or ALONE
    if settings.score_episodes == 0:
        return None
    options = _score_options(run, workers)
    note: Callable[[str], None] = (lambda _: None) if ranks.rank or settings.progress == "off" else note_progress
    if not ranks.rank:
        where = f" on the {options.on} package itself (may take minutes)" if options.on else ""
        most = "up to " if settings.score_episodes is None else ""
        say(f"\nScoring {most}{options.episodes:,} episodes of each policy{where} ...")
    with shared_run(run.path, ranks) as path:
        evaluate = partial(
            evaluate_run,
            path,
            close_limit=close_limit,
            on_step=progress_notes("score", note, stop),
            budget=SCORE_BUDGET if settings.score_episodes is None else NO_BUDGET,
            ranks=ranks,
        )
        return _score_on(run, evaluate, options, is_first=not ranks.rank)


def _score_options(run: Any, workers: int | None) -> EvaluateOptions:
    settings = run.config.run
    is_sampled = settings.eval_policy == "sampled"
    options = EvaluateOptions(on=twin_package(run), sampled=is_sampled, workers=workers, allow_code=True)
    return replace(options, episodes=settings.score_episodes or options.episodes)


def _score_on(run: Any, evaluate: Callable[[EvaluateOptions], Any], options: EvaluateOptions, is_first: bool) -> Scored:
    """Score a run on a package, or on the built-in environment where the package is not installed."""
    try:
        return Scored(evaluate(options), options.on, options.episodes)
    except UserError as error:
        if options.on is None:
            raise UserError(f"the run is complete, in {run.path}; it could not be scored: {error}") from error
        # The built-in environment gives the same numbers.
        if is_first:
            say(f"mappo: {error}; scoring on the built-in {run.env}", sys.stderr)
        return Scored(evaluate(replace(options, on=None)), None, options.episodes)


def score_together(run: Any, place: Place, signals: Signals) -> Scored | None:
    """Score a complete run by all of its processes; return None for a process alone, or if they must stop.

    Args:
        run: the `Run`, complete in all processes.
        place: the place of this process.
        signals: of the training. A signal to one process stops all.

    Raises:
        LostError, ElsewhereError: see `joined`.
    """
    settings = run.config.run
    if place.size == 1 or settings.score_episodes == 0:
        return None
    from mappo.backend.process_group import joined
    from mappo.training.shares import own_workers

    def stop() -> None:
        if signals.caught:
            raise StopTraining

    with joined(place, False, max(settings.lost_after, CURVE_S)) as ranks:
        caught, warned, is_late = ranks.largest(signals.caught, signals.warned, signals.is_time_over)
        signals.caught, signals.warned = int(caught), int(warned)
        if caught or warned or is_late:
            return None
        try:
            return score_complete(run, signals.close_limit, ranks, stop, own_workers(run.config, place))
        except StopTraining:
            signals.caught = int(ranks.largest(signals.caught)[0])
            return None

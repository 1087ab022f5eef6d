"""The score of a complete run by all of its processes. Loads no torch before it is called."""

from typing import Any

from mappo.cli.results import Scored, score_complete
from mappo.cli.signals import Signals
from mappo.errors import StopTraining
from mappo.system.launched import Place

# Seconds for the first process to draw the learning curve, while the others wait for it.
CURVE_S = 120.0


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

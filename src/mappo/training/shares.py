"""The share of a process in a run of several processes: some of the environments, or some of the seeds."""

import warnings
from collections.abc import Callable
from dataclasses import replace

from mappo.backend.ranks import Ranks
from mappo.config import Config
from mappo.core.slices import equal_slices
from mappo.errors import StopTraining, UserError
from mappo.runs.logger import Update
from mappo.system.hardware import usable_cores
from mappo.system.launched import Place
from mappo.system.shutdown import Interrupts

Callback = Callable[[Update], None]


def own_config(config: Config, place: Place) -> Config:
    """Return the settings of a process: its seeds, if there are several, and no display except in the first process.

    Raises:
        UserError: there are fewer seeds than processes.
    """
    run = config.run
    if run.processes > place.size == 1:
        warnings.warn(
            f"run.processes {run.processes} is for the command line: this process trains alone (docs/cluster.md)",
            stacklevel=5,
        )
    if place.rank:
        run = replace(run, progress="off")
    if place.size > 1 and run.seeds > 1:
        if run.seeds < place.size:
            raise UserError(
                f"run.seeds {run.seeds} in {place.size} processes: give each process a seed, or start fewer"
            )
        seeds = equal_slices(run.seeds, place.size)[place.rank]
        run = replace(run, seed=run.seed + seeds.start, seeds=seeds.stop - seeds.start)
    return replace(config, run=run)


def share_of(config: Config, ranks: Ranks, place: Place) -> Config:
    """Return the settings for the environments of a process, which share the environments of the run.

    Raises:
        UserError: the environments, or the rows of a minibatch, cannot be divided among the processes.
    """
    config = config.share(ranks.size)
    return replace(config, env=replace(config.env, workers=own_workers(config, place)))


def own_workers(config: Config, place: Place) -> int | None:
    """Return `env.workers` for a process: by default the processes of a machine share its cores."""
    if config.env.workers is None and place.local_size > 1:
        return max(1, usable_cores() // place.local_size)
    return config.env.workers


def end_update(
    ranks: Ranks, interrupts: Interrupts, callback: Callback | None, update: Update, interruption: BaseException | None
) -> None:
    """Call the callback and ask the interrupts; stop all processes where one of them stops.

    Args:
        ranks: the processes of the run.
        interrupts: may raise `StopTraining`.
        callback: called with the update; may raise `StopTraining`.
        update: the numbers of the update.
        interruption: the exception at the end of an evaluation, to be raised now.
    """
    stop: StopTraining | None = None
    try:
        if callback is not None:
            callback(update)
        if isinstance(interruption, StopTraining | KeyboardInterrupt):
            raise interruption
        interrupts.check_between_updates()
    except StopTraining as error:
        stop = error
    is_stopped, caught, warned = ranks.largest(stop is not None, interrupts.caught, interrupts.warned)
    if is_stopped:
        interrupts.caught = interrupts.caught or int(caught)
        interrupts.warned = interrupts.warned or int(warned)
        raise stop or StopTraining

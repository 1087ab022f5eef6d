"""Optuna's part of a sweep: the storage, the study in it, samplers and pruners. Optuna is imported when needed."""

import importlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mappo.core.seeding import derive_seed
from mappo.envs.names import require
from mappo.errors import UserError
from mappo.experiments.sweep.plan import SweepPlan
from mappo.system.packages import install_command

_TOKEN = "folder"  # user attribute of Optuna's study: the token of the study's folder


def load_optuna() -> Any:
    """Return Optuna, without its messages about single trials.

    Raises:
        UserError: Optuna is not installed.
    """
    optuna = require("optuna", "Optuna", install_command("sweep"))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def is_storage_error(error: Exception) -> bool:
    """Return whether Optuna's storage has failed."""
    return type(error).__module__.partition(".")[0] in ("optuna", "sqlalchemy")


@contextmanager
def storage_errors() -> Generator[None]:
    """Turn errors of Optuna's storage into a UserError."""
    try:
        yield
    except Exception as error:
        if not is_storage_error(error):
            raise
        raise UserError(f"the storage failed: {_first_line(error)}; the same command goes on") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def open_optuna_study(plan: SweepPlan, token: str) -> Any:
    """Return Optuna's study, a new study if the storage has none of its name.

    Args:
        plan: the sweep.
        token: token of the study's folder, also kept in the storage: both belong together.

    Raises:
        UserError: the storage cannot be used, or belongs to another folder.
    """
    try:
        study = load_optuna().create_study(
            study_name=plan.options.study,
            storage=_make_storage(plan),
            load_if_exists=True,
            direction="maximize",
            pruner=_make_pruner(plan),
        )
        found = study.user_attrs.get(_TOKEN)
        is_empty = not study.get_trials(deepcopy=False)
    except UserError:
        raise
    except Exception as error:  # of any database and its driver
        raise UserError(f"the storage cannot be used: {_first_line(error)}") from error
    if found is None and is_empty:
        if any(plan.folder.glob("trial-*")):
            raise UserError(f"{plan.folder} holds trials that the storage lacks: give the former --storage")
        study.set_user_attr(_TOKEN, token)
    elif found != token:
        raise UserError(
            f"the storage holds a study {plan.options.study} of another folder: all processes of a sweep need the same "
            f"storage and the same folder; for a new sweep choose another --study"
        )
    return study


def _make_storage(plan: SweepPlan) -> Any:
    """Return Optuna's storage: of a URL, or of a journal file."""
    text = plan.options.storage
    if text is not None and "://" in text:
        return text
    journal = importlib.import_module("optuna.storages.journal")
    file = plan.folder / "journal.log" if text is None else Path(text).absolute()
    _mend(file, journal.JournalFileSymlinkLock(str(file)))
    return load_optuna().storages.JournalStorage(journal.JournalFileBackend(str(file)))


def _mend(file: Path, lock: Any) -> None:
    """Cut off a line at the end of a journal that a full disk has cut short: Optuna could add nothing behind it."""
    text = file.read_bytes() if file.exists() else b""
    if text and not text.startswith(b'{"op_code"'):
        raise UserError(f"{file} is no journal of Optuna: choose another --storage")
    if text.endswith(b"\n") or not text:
        return
    lock.acquire()
    try:
        os.truncate(file, file.read_bytes().rfind(b"\n") + 1)  # read again: another process may have been writing
    finally:
        lock.release()


def _make_pruner(plan: SweepPlan) -> Any:
    pruners = load_optuna().pruners
    if plan.pruner == "none":
        return pruners.NopPruner()
    if plan.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=plan.num_rounds)
    return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=plan.num_rounds // 4)


def make_sampler(plan: SweepPlan, number: int) -> Any:
    """Return the sampler of a trial. A common seed would give the trials of all processes the same settings."""
    samplers = load_optuna().samplers
    seed = derive_seed(plan.base.run.seed, 5, number)
    return samplers.RandomSampler(seed) if plan.options.sampler == "random" else samplers.TPESampler(seed=seed)

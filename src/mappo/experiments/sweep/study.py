"""The study of a sweep: its folder, and Optuna's record of its trials. Any number of processes share both.

runs/STUDY/study.json      environment, settings and space
           journal.log     Optuna's storage, unless --storage names another
           trial-0000/     the run of a trial
           leases/         see lease.py
           trials.csv, trials.png, best.json     see results.py
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from mappo._version import __version__
from mappo.config import Config
from mappo.errors import UserError
from mappo.experiments.sweep.lease import Lease, Leases
from mappo.experiments.sweep.plan import SweepPlan
from mappo.experiments.sweep.setting import start_point
from mappo.experiments.sweep.storage import load_optuna, make_sampler, open_optuna_study
from mappo.runs.config_json import RESUMABLE_SETTINGS, read_json
from mappo.system.file_lock import lock_file
from mappo.system.files import error_text, write_text

FORMAT = 1
_POLL = 0.1  # seconds between two attempts to lock


class Study:
    """A study, opened or begun.

    Args:
        plan: the sweep.
        check: called while another process is waited for; may raise.

    Raises:
        UserError: the folder or the storage belongs to another sweep, or cannot be used.
    """

    def __init__(self, plan: SweepPlan, check: Callable[[], None]) -> None:
        self.plan = plan
        self._check = check
        load_optuna()  # raises ahead of the first file, if Optuna is missing
        self._leases = Leases(plan.folder / "leases", plan.base.run.lost_after)
        try:
            self._refuse_other_folder()
            (plan.folder / "leases").mkdir(parents=True, exist_ok=True)
            with self.locked():
                self._study = open_optuna_study(plan, self._open_folder())
                self._enqueue()
        except OSError as error:
            raise UserError(f"{plan.folder} cannot be used: {error_text(error)}") from None

    @contextmanager
    def locked(self) -> Generator[None]:
        """Let no other process of the study into such a context meanwhile."""
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(lock_file(self.plan.folder / "study.lock"))
                    break
                except BlockingIOError:
                    self._check()
                    time.sleep(_POLL)
            yield

    def _refuse_other_folder(self) -> None:
        """Raise a UserError if the folder exists and holds no sweep."""
        folder = self.plan.folder
        if not folder.exists() or (folder / "study.json").exists():
            return
        if others := sorted(set(os.listdir(folder)) - {"leases", "study.lock", ".study.json.tmp"}):
            raise UserError(f"{folder} exists and is no sweep ({others[0]} is in it): choose another --study")

    def _open_folder(self) -> str:
        """Return the token of the study's folder; write study.json for a new study."""
        plan = self.plan
        file = plan.folder / "study.json"
        # Through JSON and back: lists in place of tuples, as in the file.
        space = json.loads(json.dumps([setting.to_dict() for setting in plan.space]))
        if file.exists():
            data = read_json(file, f"{plan.folder} is no sweep")
            self._compare(data, space)
            return str(data["token"])
        head = {"format": FORMAT, "mappo": __version__, "token": uuid.uuid4().hex, "env": plan.env}
        data = head | {"grid": plan.options.grid, "space": space, "config": plan.base.to_dict()}
        write_text(file, json.dumps(data, indent=2) + "\n")
        return str(data["token"])

    def _compare(self, data: dict[str, Any], space: Any) -> None:
        """Raise a UserError unless study.json is of the same sweep."""
        plan = self.plan
        file = plan.folder / "study.json"
        if data.get("format") != FORMAT or not data.keys() >= {"token", "env", "grid", "space", "config"}:
            raise UserError(f"{file} is damaged, or of another version of mappo: choose another --study")
        try:
            config = Config.from_dict(data["config"])
        except (TypeError, ValueError) as error:
            raise UserError(f"{file} is damaged: {error}") from None
        differences = config.differences(plan.base, RESUMABLE_SETTINGS)
        for name, mine in (("env", plan.env), ("grid", plan.options.grid), ("space", space)):
            if data[name] != mine:
                differences.append("another space" if name == "space" else f"{name} {data[name]}, not {mine}")
        if differences:
            raise UserError(
                f"{plan.folder} was begun with other settings: {'; '.join(differences)}; "
                f"give the same settings, or another --study"
            )

    def _enqueue(self) -> None:
        """Add the trials of a grid, or the base config as the first trial of a search."""
        number = len(self.trials())
        points = self.plan.grid or [start_point(self.plan.space, self.plan.base)]
        for values in points[number:]:
            self._study.enqueue_trial(values)

    def trials(self) -> list[Any]:
        """Return all trials, as Optuna's frozen trials."""
        return self._study.get_trials(deepcopy=False)

    def begun(self) -> list[Any]:
        """Return the trials that a process has begun."""
        return [trial for trial in self.trials() if trial.state.name != "WAITING"]

    @contextmanager
    def next_trial(self) -> Generator[tuple[Any, Lease] | None]:
        """Give a trial to work on and its lease: of a lost process, or else new; None if there is none now."""
        with ExitStack() as stack:
            with self.locked():
                found = self._take_up(stack)
                begun = self.begun()
                if found is None and len(begun) < self.plan.num_trials:
                    found = self._ask(len(begun), stack)
            yield found

    def _take_up(self, stack: ExitStack) -> tuple[Any, Lease] | None:
        """Return a begun trial without a living process; None if there is none."""
        for frozen in self.begun():
            if not frozen.state.is_finished():
                lease = stack.enter_context(self._leases.claim(frozen.number))
                if lease is not None:
                    # Optuna has no public way to go on with a trial of another process.
                    return self._with_values(frozen._trial_id), lease  # pyright: ignore[reportPrivateUsage]
        return None

    def _ask(self, number: int, stack: ExitStack) -> tuple[Any, Lease] | None:
        """Return a new trial."""
        self._study.sampler = make_sampler(self.plan, number)
        trial = self._study.ask()
        lease = stack.enter_context(self._leases.claim(trial.number))
        return None if lease is None else (self._with_values(trial._trial_id), lease)

    def _with_values(self, trial_id: int) -> Any:
        """Return a trial with a value for each setting; a process may have been killed in between."""
        trial = load_optuna().trial.Trial(self._study, trial_id)
        for setting in self.plan.space:
            setting.suggest(trial)
        return trial

    def reported(self, number: int) -> set[int]:
        """Return the rounds of a trial with a reported evaluation."""
        return set(self.trials()[number].intermediate_values)

    def tell(self, number: int, value: float | None, state: str) -> None:
        """Record the result of a trial.

        Args:
            number: number of the trial.
            value: the objective; None unless complete.
            state: COMPLETE, PRUNED or FAIL.
        """
        self._study.tell(number, value, state=load_optuna().trial.TrialState[state])

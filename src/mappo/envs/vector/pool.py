"""Python environments in several processes, through shared memory."""

import contextlib
import os
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any

import cloudpickle
import torch
from torch import Tensor

from mappo.core.timestep import TimeStep, concat_steps
from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.slices import half_slices
from mappo.envs.vector.team_layout import TeamLayout
from mappo.envs.vector.timesteps import TimeStepReader
from mappo.envs.vector.worker import CHECKED_RESET, RESET
from mappo.envs.vector.worker_handle import START_TIMEOUT, SharedMemory, WorkerHandle, WorkerLostError
from mappo.errors import UserError

CLOSE_TIMEOUT = 5.0  # seconds, for all workers together


class WorkerPool:
    """`SerialEnvs`, stepped by worker processes: the same numbers, whatever the number of workers.

    Observations and actions go through shared memory, orders through a socket for each worker: its byte wakes a
    process as a semaphore would, and it tells at once when the other side is gone. Each worker has one thread.

    The environments are cut into two `slices`, which may be stepped by themselves (`send`, `receive`), one while
    the learner answers the other.

    Args:
        make: called once for each environment, in a worker; may be a lambda or live in the main script.
        num_envs: E. workers: processes. shared_reward: see `TeamLayout`. time_limit: see `TimeLimit`.
        restart: a worker that dies or hangs, or whose environment fails, is replaced: its episodes are then over, as
            by a time limit at the last observation, with reward 0, and new ones begin. Else it is an error.
        timeout: seconds that a worker may take for one step of its environments.

    Raises:
        UserError: see `SerialEnvs`; also where a worker is lost.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        num_envs: int,
        workers: int,
        shared_reward: bool = False,
        *,
        time_limit: int | None = None,
        restart: bool = False,
        timeout: float = 60.0,
    ) -> None:
        if os.name == "nt":
            raise UserError("worker processes need Linux or macOS: use --env.workers 0")
        try:
            job = {"make": cloudpickle.dumps(make), "shared_reward": shared_reward, "time_limit": time_limit}
        except Exception as error:
            raise UserError(
                f"the function that makes environments cannot be sent to worker processes ({error}): "
                f"let it make all that it needs by itself, or use --env.workers 0"
            ) from error
        self.num_envs, self.device, self.restart, self.restarts = num_envs, torch.device("cpu"), restart, 0
        self.slices, self._memory = half_slices(num_envs), SharedMemory()
        self._handles: list[WorkerHandle] = []
        self.num_workers = min(workers, num_envs)
        for w in range(self.num_workers):
            ranges = _ranges(self.slices, w, self.num_workers)
            name = f"worker {w} (environments {' and '.join(_span(r) for r in ranges if r)})"
            self._handles.append(WorkerHandle(name, ranges, job, self._memory, timeout))
        self._close = weakref.finalize(self, _close, self._handles, self._memory)  # at the latest when the program ends
        with self._closed_on_error():
            try:
                for member in self._handles:
                    member.start()
                layouts = [self._first_layout(member) for member in self._handles]
            except OSError as error:
                raise UserError(f"{self.num_workers} worker processes cannot be started: {error}") from error
            self._layout, self.spec = layouts[0], layouts[0].spec
            memory = self._memory.map(Buffers.size(self._layout, num_envs))
            self._reader = TimeStepReader(self._layout, Buffers(self._layout, num_envs, memory))
            for member, layout in zip(self._handles, layouts, strict=True):
                self._check_layout(member, layout)
        self._episodes_shown: list[TimeStep] = []  # of each part, what the learner saw last

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """First episodes start from the seeds themselves, later ones from what derives from (seed, episode)."""
        self._check_open()
        for member in self._handles:  # a game that is still stepped writes its episode
            while member.pending:
                self._answered(member)
            member.skipped.clear()
        self._episodes_shown = []  # nothing is under way: who is replaced has no episode to be cut off
        first = self._reader.write_seeds(seed)
        order = CHECKED_RESET if first else RESET
        for member in self._handles:
            member.send_command(order)
        for member in self._handles:
            try:
                told = member.receive_answer(
                    START_TIMEOUT if first else None
                )  # some start a program of their own only now
            except WorkerLostError as lost:
                self._replace(member, lost)
            else:
                self._warn(told)
        step = self._reader.time_step(slice(0, self.num_envs), begun=True)
        self._episodes_shown = [step.slice_envs(part) for part in self.slices]
        return step

    def step(self, action: Tensor) -> TimeStep:
        for index, part in enumerate(self.slices):
            self.send(index, action[part])
        seen = [self.receive(index) for index in range(len(self.slices))]
        return concat_steps(seen)

    def send(self, part: int, action: Tensor) -> None:
        """Begins one step of `slices[part]`, by actions `(e, A, D)`."""
        self._check_open()
        self._reader.write_action(action, self.slices[part])
        for member in self._handles:
            if part in member.skipped:
                member.skipped.remove(part)
            elif member.ranges[part]:
                member.pending.append(part)
                member.send_command(str(part).encode())

    def receive(self, part: int) -> TimeStep:
        """Waits for that step; parts are answered in the order in which they were sent."""
        for member in self._handles:
            if member.pending and member.pending[0] == part:
                self._answered(member)
        self._episodes_shown[part] = self._reader.time_step(self.slices[part])
        return self._episodes_shown[part]

    def close(self) -> None:
        if stuck := self._close():
            told = f"{' and '.join(stuck)} did not close the environments within {CLOSE_TIMEOUT:g} s"
            warnings.warn(f"{told}, and {'was' if len(stuck) == 1 else 'were'} killed", stacklevel=2)

    def _answered(self, member: WorkerHandle) -> None:
        try:
            told = member.receive_answer()
        except WorkerLostError as lost:
            self._replace(member, lost)
            return
        member.pending.popleft()
        member.failures = 0
        self._warn(told)  # last: it raises where warnings are errors

    def _first_layout(self, member: WorkerHandle) -> TeamLayout:
        """What its environments look like; those of another process, where one is lost as it starts."""
        while True:
            try:
                return member.layout()
            except WorkerLostError as lost:
                self._handle_loss(member, lost, "It is replaced")
                member.start()

    def _handle_loss(self, member: WorkerHandle, lost: Exception, told: str) -> None:
        """Says that it is lost and will be replaced; a UserError where that is not wanted, or was tried enough."""
        member.failures += 1
        if not self.restart or member.failures > 3:
            self._close()
            again = f" ({member.failures} times in a row)" if member.failures > 1 else ""
            raise UserError(f"{lost}{again}") from None
        self.restarts += 1
        # The number tells apart losses of one text, of which Python would show the first only; kernel logs name it.
        warnings.warn(f"{lost}\n{told}; it was process {member.process.pid}.", stacklevel=6)
        member.close(0)

    def _replace(self, member: WorkerHandle, lost: Exception) -> None:
        """Another process for the same environments, whose episodes are over and begin anew."""
        arrays, numbers = self._reader.arrays, member.env_indices
        under_way = set(member.pending)  # before another process is started, for which nothing is
        while True:
            self._handle_loss(member, lost, "It is replaced, and its episodes begin anew")
            arrays["busy"][numbers] = False
            arrays["episode"][numbers] += 1
            try:
                member.start()
                self._check_layout(member, member.layout())
                member.send_command(RESET)
                self._warn(member.receive_answer(START_TIMEOUT))
                break
            except (WorkerLostError, UserError, OSError) as next_loss:
                lost = next_loss
        if not self._episodes_shown:  # at a reset nothing is under way
            return
        for index, (part, share) in enumerate(zip(self.slices, member.ranges, strict=True)):
            own, seen = slice(share.start, share.stop), self._episodes_shown[index]
            there = slice(share.start - part.start, share.stop - part.start)
            arrays["reward"][own], arrays["terminated"][own], arrays["ended"][own] = 0, False, True
            for name, reached in (("obs", seen.obs), ("state", seen.state), ("active", seen.active)):
                if reached is not None:
                    arrays[f"next_{name}"][own] = reached[there].numpy()
            # A part that was not under way is told at its next step, which is not sent.
            if share and index not in under_way:
                member.skipped.add(index)

    def _check_layout(self, member: WorkerHandle, layout: Any) -> None:
        difference = layout.spec.mismatch(self.spec)
        if not difference and not layout.matches(self._layout):
            difference = "their states, dtypes or shared rewards do"
        if difference:
            raise UserError(f"the function makes environments that differ: {difference}")
        member.show_in(self._reader.arrays, self.num_envs)

    def _check_open(self) -> None:
        if not self._close.alive:
            raise UserError("these environments are closed")

    def _warn(self, told: list[str]) -> None:
        for text in told:
            warnings.warn(text, stacklevel=5)

    @contextlib.contextmanager
    def _closed_on_error(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            self._close()
            raise


def _ranges(parts: Sequence[slice], worker: int, workers: int) -> list[range]:
    """A worker's environments of each part: as many as the others', and of the second part counted from behind."""
    ranges: list[range] = []
    for index, part in enumerate(parts):
        place, count = workers - 1 - worker if index else worker, part.stop - part.start
        ranges.append(range(part.start + count * place // workers, part.start + count * (place + 1) // workers))
    return ranges


def _span(numbers: range) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _close(members: Sequence[WorkerHandle], memory: SharedMemory) -> list[str]:
    """Who had to be killed."""
    for member in members:
        member.disconnect()
    last = time.monotonic() + CLOSE_TIMEOUT
    stuck = [member.name for member in members if not member.close(max(last - time.monotonic(), 0))]
    memory.file.close()
    return stuck

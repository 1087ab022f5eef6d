"""Python environments in several worker processes, through shared memory."""

import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import torch
from torch import Tensor

from mappo.config.settings import EnvOptions
from mappo.core.timestep import TimeStep, concat_steps
from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.slices import half_slices, worker_ranges
from mappo.envs.vector.team_layout import TeamLayout
from mappo.envs.vector.timesteps import TimeStepReader
from mappo.envs.vector.worker import CHECKED_RESET, RESET
from mappo.envs.vector.worker_handle import START_TIMEOUT, SharedMemory, WorkerHandle, WorkerLostError
from mappo.errors import UserError
from mappo.system.deadline import Deadline

CLOSE_TIMEOUT = 5.0  # seconds, for all workers together
_MAX_FAILURES = 3  # in a row; the next failure ends the run


class WorkerPool:
    """`SerialEnvs` stepped by worker processes: the same numbers, for any number of workers.

    Observations and actions go through shared memory. Commands go through a socket for each worker: its byte wakes a
    process as a semaphore would, and it shows at once when the other side is gone. Each worker has one thread.

    The environments form two `slices`: a half is stepped while the learner acts for the other (`send`, `receive`).

    Args:
        make: called once for each environment, in a worker; may be a lambda, or a function of the main script.
        num_envs: number of environments (E).
        env_options: `workers` is the number of processes, and `time_limit` see `TimeLimit`. With `restart`, a worker
            is replaced if it dies, hangs, or one of its environments fails. Its episodes then end, as by a time limit
            at the last observation, with reward 0, and new episodes begin. Without `restart` this is an error.
        shared_reward: see `TeamLayout`.

    Raises:
        UserError: see `SerialEnvs`; also if a worker is lost.
    """

    def __init__(
        self, make: Callable[[], Any], num_envs: int, env_options: EnvOptions, shared_reward: bool = False
    ) -> None:
        if os.name == "nt":
            raise UserError("worker processes need Linux or macOS: use --env.workers 0")
        rules = {name: getattr(env_options, name) for name in ("time_limit", "late_rewards")}
        job = {"make": _dump(make), "shared_reward": shared_reward, "rules": rules}
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.restart = env_options.restart
        self.restarts = 0
        self.num_workers = min(env_options.workers or 1, num_envs)
        self.slices = half_slices(num_envs)
        self._memory = SharedMemory()
        self._handles = [
            WorkerHandle(index, ranges, job, self._memory, env_options.worker_timeout)
            for index, ranges in enumerate(worker_ranges(self.slices, self.num_workers))
        ]
        self._close = weakref.finalize(self, _close, self._handles, self._memory, os.getpid())
        try:
            self._start_workers(env_options.agents)
        except BaseException:
            self._close()
            raise
        self._last_steps: list[TimeStep] = []  # the last time step of each half, as the learner received it

    def _start_workers(self, agents: Sequence[str]) -> None:
        """Start all workers, then give them the memory for their results."""
        try:
            for handle in self._handles:
                handle.start()
            layouts = [self._first_layout(handle) for handle in self._handles]
        except OSError as error:
            raise UserError(f"{self.num_workers} worker processes cannot be started: {error}") from error
        self._layout = layouts[0]
        self._layout.arrange(agents)
        self.spec = self._layout.spec
        memory = self._memory.map(Buffers.size(self._layout, self.num_envs))
        self._reader = TimeStepReader(self._layout, Buffers(self._layout, self.num_envs, memory))
        for handle, layout in zip(self._handles, layouts, strict=True):
            self._attach(handle, layout)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Start all episodes anew: first episodes from the seeds themselves, later ones from (seed, episode)."""
        self._check_open()
        # A step under way would write over the new episodes.
        for handle in self._handles:
            while handle.pending:
                self._await_step(handle)
            handle.skipped.clear()
        self._last_steps = []  # a worker replaced in a reset has no episode to cut off
        is_first = self._reader.write_seeds(seed)
        for handle in self._handles:
            handle.send(CHECKED_RESET if is_first else RESET)
        for handle in self._handles:
            try:
                # Some environments start a program of their own at their first reset.
                texts = handle.receive_reply(START_TIMEOUT if is_first else None)
            except WorkerLostError as lost:
                self._replace(handle, lost)
            else:
                self._warn(texts)
        step = self._reader.time_step(slice(0, self.num_envs), is_reset=True)
        self._last_steps = [step.slice_envs(envs) for envs in self.slices]
        return step

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments by actions `(E, A, D)`."""
        for index, envs in enumerate(self.slices):
            self.send(index, action[envs])
        return concat_steps([self.receive(index) for index in range(len(self.slices))])

    def send(self, index: int, action: Tensor) -> None:
        """Begin a step of `slices[index]`, by actions `(e, A, D)`."""
        self._check_open()
        self._reader.write_action(action, self.slices[index])
        for handle in self._handles:
            if index in handle.skipped:
                handle.skipped.remove(index)
            elif handle.ranges[index]:
                handle.pending.append(index)
                handle.send(str(index).encode())

    def receive(self, index: int) -> TimeStep:
        """Wait for the step of `slices[index]`; halves are received in the order of `send`."""
        for handle in self._handles:
            if handle.pending and handle.pending[0] == index:
                self._await_step(handle)
        self._last_steps[index] = self._reader.time_step(self.slices[index])
        return self._last_steps[index]

    def close(self) -> None:
        """Close all environments, and end the workers."""
        if stuck := self._close():
            end = f"within {CLOSE_TIMEOUT:g} s, and {'was' if len(stuck) == 1 else 'were'} killed"
            warnings.warn(f"{' and '.join(stuck)} did not close the environments {end}", stacklevel=2)

    def _await_step(self, handle: WorkerHandle) -> None:
        try:
            texts = handle.receive_reply()
        except WorkerLostError as lost:
            self._replace(handle, lost)
            return
        handle.pending.popleft()
        handle.num_failures = 0
        self._warn(texts)  # last: it raises where warnings are errors

    def _first_layout(self, handle: WorkerHandle) -> TeamLayout:
        """Return the layout of a worker's environments; replace a worker lost as it starts."""
        while True:
            try:
                return handle.layout()
            except WorkerLostError as lost:
                self._handle_loss(handle, lost, "It is replaced")
                handle.start()

    def _handle_loss(self, handle: WorkerHandle, lost: Exception, consequence: str) -> None:
        """Warn of a lost worker, before it is replaced.

        Raises:
            UserError: workers are not to be replaced, or the worker failed too often in a row.
        """
        handle.num_failures += 1
        if not self.restart or handle.num_failures > _MAX_FAILURES:
            self._close()
            again = f" ({handle.num_failures} times in a row)" if handle.num_failures > 1 else ""
            raise UserError(f"{lost}{again}") from None
        self.restarts += 1
        # Include the process id: Python shows equal warnings once, and kernel logs name it.
        warnings.warn(f"{lost}\n{consequence}; it was process {handle.process.pid}.", stacklevel=6)
        handle.close(Deadline(0))

    def _replace(self, handle: WorkerHandle, lost: Exception) -> None:
        """Start another process for the same environments; their episodes end and begin anew."""
        arrays = self._reader.arrays
        under_way = set(handle.pending)  # `start` clears the pending halves
        while True:
            self._handle_loss(handle, lost, "It is replaced, and its episodes begin anew")
            arrays["busy"][handle.env_indices] = False
            arrays["episode"][handle.env_indices] += 1
            try:
                handle.start()
                self._attach(handle, handle.layout())
                handle.send(RESET)
                self._warn(handle.receive_reply(START_TIMEOUT))
                break
            except (WorkerLostError, UserError, OSError) as next_loss:
                lost = next_loss
        for index, last in enumerate(self._last_steps):
            self._cut_episodes(handle, index, last)
            # An idle half reports its lost episodes at its next step, without sending the step.
            if handle.ranges[index] and index not in under_way:
                handle.skipped.add(index)

    def _cut_episodes(self, handle: WorkerHandle, index: int, last: TimeStep) -> None:
        """End the episodes of a worker's environments in half `index`, as by a time limit at the last observation."""
        arrays = self._reader.arrays
        envs = slice(handle.ranges[index].start, handle.ranges[index].stop)
        in_half = slice(envs.start - self.slices[index].start, envs.stop - self.slices[index].start)
        arrays["reward"][envs] = 0
        arrays["terminated"][envs] = False
        arrays["ended"][envs] = True
        for name, value in (("obs", last.obs), ("state", last.state), ("active", last.active)):
            if value is not None:
                arrays[f"next_{name}"][envs] = value[in_half].numpy()

    def _attach(self, handle: WorkerHandle, layout: TeamLayout) -> None:
        """Attach a worker to the shared memory, if its environments are like the others."""
        layout.arrange(self.spec.agents)  # a set of names may have another order in each process
        unlike = "" if layout.matches(self._layout) else "their states, dtypes or shared rewards do"
        if difference := layout.spec.mismatch(self.spec) or unlike:
            raise UserError(f"the function makes different environments: {difference}")
        handle.attach(self._reader.arrays, self.num_envs, self.spec.agents)

    def _check_open(self) -> None:
        if not self._close.alive:
            raise UserError("these environments are closed: make new ones")

    def _warn(self, texts: list[str]) -> None:
        for text in texts:
            warnings.warn(text, stacklevel=5)


def _dump(make: Callable[[], Any]) -> bytes:
    try:
        return cloudpickle.dumps(make)
    except Exception as error:
        raise UserError(
            f"the function that makes environments cannot be sent to worker processes ({error}): "
            f"make all that it needs inside the function, or use --env.workers 0"
        ) from error


def _close(handles: Sequence[WorkerHandle], memory: SharedMemory, learner: int) -> list[str]:
    """End all workers (at the latest when the program ends); return the names of the killed ones."""
    if os.getpid() != learner:  # in a forked process
        return []
    for handle in handles:
        handle.disconnect()
    deadline = Deadline(CLOSE_TIMEOUT)
    stuck = [handle.name for handle in handles if not handle.close(deadline)]
    memory.file.close()
    return stuck

"""A rank of a run is killed or stopped, or the link between two hosts is cut: the run ends as if nothing had happened.

The hosts are two network namespaces with a link between them, where this user may make them; else one host. The ranks
are forks of this process, which has loaded everything; one run in `REAL` has ranks that load everything themselves.
"""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from faults.runs import Violation, assert_same, ended, fork, outcome
from processes import free_port

UPDATES = 60
EVERY = 4  # updates from a checkpoint to the next
ENVS = 12  # for 2, 3 and 4 ranks
LENGTH = 5
LOST_AFTER = 15  # seconds: processes of a busy machine start apart
LEAVE = 120.0  # seconds, for processes that share a core with many others
REAL = 7
SETTINGS = (
    f"--env.num-envs {ENVS} --network.hidden 8 --ppo.rollout-length {LENGTH} --ppo.epochs 2 --ppo.minibatches 1 "
    f"--run.total-steps {UPDATES * ENVS * LENGTH} --run.eval-interval {EVERY * ENVS * LENGTH} --run.eval-episodes 4 "
    f"--run.score-episodes 0 --run.replay-episodes 0 --run.progress off --run.lost-after {LOST_AFTER}"
)
KINDS = ("battle --network.memory-size 4", "spread --network.obs-norm")
SIZES = (2, 3, 4)
CLONE_NEWNET = 0x40000000


class Process(Protocol):
    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


class Fork:
    """A fork of this process, with the methods of `Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        self.code = ended(self.pid, 0) if self.code is None else self.code
        return self.code

    def wait(self, timeout: float) -> int:
        self.code = ended(self.pid, timeout) if self.code is None else self.code
        if self.code is None:
            raise subprocess.TimeoutExpired("mappo", timeout)
        return self.code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.code = ended(self.pid) if self.code is None else self.code


class Hosts:
    """Hosts for ranks: prefixes of commands, network interfaces, and the address of the first.

    Args:
        names: namespaces; none for this host alone.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = names
        self.address = "10.77.0.1" if names else "127.0.0.1"

    def start(self, rank: int, size: int, port: int, run: Path, kind: str, log: Path, is_real: bool) -> Process:
        """Rank `rank` of the run; with two hosts the ranks alternate."""
        words = ["train", *f"{kind} {SETTINGS}".split(), "--run.dir", str(run), "--run.exists", "resume"]
        count = len(self.names) or 1
        local_size = len(range(rank % count, size, count))
        found = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": self.address, "MASTER_PORT": port}
        found |= {"LOCAL_RANK": rank // count, "LOCAL_WORLD_SIZE": local_size, "OMP_NUM_THREADS": 1}
        found |= {"GLOO_SOCKET_IFNAME": f"v{rank % count}" if self.names else "lo"}
        variables = {name: str(value) for name, value in found.items()}
        host = self.names[rank % count] if self.names else None
        if not is_real:
            return Fork(fork(words, log, prepare=lambda: enter(host, variables)))
        command = [*(["ip", "netns", "exec", host] if host else []), sys.executable, "-m", "mappo", *words]
        with open(log, "ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | variables)

    def set_link(self, state: str) -> None:
        ip("-n", self.names[1], "link", "set", "v1", state)


def enter(host: str | None, variables: Mapping[str, str]) -> None:
    """Move this process into a namespace, and set its variables."""
    os.environ.update(variables)
    if host is not None:
        with open(f"/run/netns/{host}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def two_hosts() -> Generator[Hosts | None]:
    """Two namespaces with a link; None where this user cannot make them."""
    names = [f"mappo-{os.getpid()}-{k}" for k in (0, 1)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "v0", "netns", names[0], "type", "veth", "peer", "name", "v1", "netns", names[1])
        for k, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.77.0.{k + 1}/24", "dev", f"v{k}")
            for device in ("lo", f"v{k}"):
                ip("-n", name, "link", "set", device, "up")
        hosts = Hosts(names)
    except (OSError, subprocess.CalledProcessError):
        hosts = None
    try:
        yield hosts
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


class Run:
    """A run of several ranks that is disturbed again and again.

    Args:
        folder: an empty folder.
        hosts: where the ranks run.
        kind: see `KINDS`.
        size: number of ranks.
        is_real: the ranks load everything themselves.
    """

    def __init__(self, folder: Path, hosts: Hosts, kind: str, size: int, is_real: bool = False) -> None:
        self.path, self.log = folder / "run", folder / "log"
        self.hosts, self.kind, self.size, self.is_real = hosts, kind, size, is_real

    def start(self) -> list[Process]:
        place = (self.size, free_port(), self.path, self.kind, self.log, self.is_real)
        return [self.hosts.start(rank, *place) for rank in range(self.size)]

    def rows(self) -> int:
        file = self.path / "metrics.csv"
        return file.read_bytes().count(b"\n") - 1 if file.exists() else 0

    def finish(self) -> None:
        codes = self.leave(self.start())
        if codes != [0] * self.size:
            raise Violation(f"exit codes {codes}:\n{self.log.read_text()[-3000:]}")

    def leave(self, processes: Sequence[Process], seconds: float = 180.0) -> list[int]:
        """Exit codes of the processes, which end by themselves."""
        end = time.monotonic() + seconds
        try:
            return [process.wait(max(0.1, end - time.monotonic())) for process in processes]
        except subprocess.TimeoutExpired:
            raise Violation(f"a process did not leave in {seconds:g} s:\n{self.log.read_text()[-3000:]}") from None
        finally:
            for process in processes:
                process.kill()

    def disturb(self, fault: str, rank: int, row: int) -> bool:
        """Let a fault happen to a rank at this row; False if the run ended before."""
        processes = self.start()
        while self.rows() < row:
            if any(process.poll() is not None for process in processes):
                codes = self.leave(processes)
                if any(codes):
                    raise Violation(f"exit codes {codes} without a fault:\n{self.log.read_text()[-3000:]}")
                return False
            time.sleep(0.001)
        victim = processes[rank]
        others = [process for process in processes if process is not victim]
        if fault == "cut":
            self.hosts.set_link("down")
        else:
            victim.send_signal(signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
        codes = self.leave(others, LEAVE)
        if fault == "cut":
            codes += self.leave([victim], LEAVE)
            self.hosts.set_link("up")
        elif fault == "stop":
            victim.send_signal(signal.SIGCONT)
            codes += self.leave([victim], LEAVE)
        if set(codes) == {0} and self.rows() >= UPDATES:  # too late for the fault
            return False
        if set(codes) != {4}:
            raise Violation(f"{fault} of rank {rank}: exit codes {codes}:\n{self.log.read_text()[-3000:]}")
        return True


def run(folder: Path, faults: int, seed: int) -> str:
    """Disturb runs of 2 to 4 ranks so many times, each time after the first and before the last checkpoint."""
    rng = random.Random(seed)
    done = Counter[tuple[str, int, int]]()  # by fault, ranks and hosts
    wholes: dict[tuple[str, int], Path] = {}
    with two_hosts() as pair:
        number = 0
        while sum(done.values()) < faults:
            hosts = pair if pair is not None and number % 2 else Hosts()
            kind, size = KINDS[number // 2 % len(KINDS)], SIZES[number % len(SIZES)]
            if (kind, size) not in wholes:
                wholes[kind, size] = make(folder / f"whole-{len(wholes)}")
                Run(wholes[kind, size], Hosts(), kind, size).finish()
            disturbed = Run(make(folder / str(number)), hosts, kind, size, number % REAL == 0)
            for row in sorted(rng.sample(range(EVERY + 1, UPDATES - EVERY), 4)):
                fault = rng.choice(("kill", "stop", "cut") if hosts.names else ("kill", "stop"))
                if disturbed.disturb(fault, rng.randrange(size), row):
                    done[fault, size, len(hosts.names) or 1] += 1
            disturbed.finish()
            what = f"{kind}, {size} ranks on {len(hosts.names) or 1} hosts"
            assert_same(outcome(wholes[kind, size] / "run"), outcome(disturbed.path), what)
            print(f"  {sum(done.values()):>4} faults  {what}{', real' * disturbed.is_real}", flush=True)
            shutil.rmtree(folder / str(number))
            number += 1
    for (fault, size, hosts), count in sorted(done.items()):
        print(f"  {fault:<5} {size} ranks  {hosts} {'host' if hosts == 1 else 'hosts'}  {count:>3}")
    return f"{sum(done.values())} faults of ranks, seed {seed}, each final state as without them"


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder

"""Latency and size of an exported policy: `python benchmarks/deploy.py`, two minutes.

An actor of 64-64 for mpe2's spread (18 numbers, 5 choices), alone and with a memory of 64, acts step by step on one
thread: as C, in onnxruntime, as pt2, compiled by AOTInductor, and by `load_actor`. All of them take turns in each
round; a row of the table has the median over rounds of the CPU time of a step, and a 95 % interval of the median.
"""

import argparse
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from record import RESULTS, append, circumstances

from mappo.config import NetworkConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.deploy.build import build_agent_policy
from mappo.deploy.c.program import FLAGS, find_compiler
from mappo.deploy.contract import make_contract
from mappo.deploy.formats import MODULES, UnavailableError, get_format
from mappo.networks.actor_critic import build_actor
from mappo.policies.actor import Actor
from mappo.policies.policy import Policy

# Times a policy's steps on changing observations; prints nanoseconds of CPU time for a step.
TIMER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "policy.h"
int main(int argc, char **argv) {
    static mappo_policy policy;
    static mappo_observation observations[64];
    const long steps = argc > 1 ? atol(argv[1]) : 0;
    mappo_action action;
    long sum = 0;
    for (int k = 0; k < 64; ++k)
        for (int i = 0; i < 18; ++i) observations[k].obs[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    const clock_t start = clock();
    for (long k = 0; k < steps; ++k) {
        mappo_policy_step(&policy, &observations[k % 64], NULL, k == 0, NULL, &action);
        sum += action.choice[0];
    }
    printf("%f %ld\n", 1e9 * (double)(clock() - start) / CLOCKS_PER_SEC / (double)steps, sum);
    return 0;
}
"""
ORIGIN = {"env": "spread", "run": "benchmark", "checkpoint": "last", "step": 0, "precision": "float32"}
ROUNDS = 15


def make_actor(memory_size: int) -> Actor:
    """Return a team of one with random weights."""
    spec = Spec(("agent",), (spaces.Box(-10, 10, (18,)),), (ActionHeads((5,)),))
    config = NetworkConfig(hidden=(64, 64), memory_size=memory_size)
    network = build_actor(spec, config, torch.Generator().manual_seed(0))
    return Actor(Policy(spec, config, network.requires_grad_(False)))


def c_steps(folder: Path) -> Callable[[int], float]:
    """Return the timer of the C file: CPU seconds of a number of steps."""
    (folder / "timer.c").write_text(TIMER)
    program = folder / "timer"
    sources = [str(folder / "timer.c"), str(folder / "policy.c")]
    subprocess.run([*find_compiler(), *FLAGS, f"-I{folder}", *sources, "-lm", "-o", str(program)], check=True)

    def run(steps: int) -> float:
        output = subprocess.run([program, str(steps)], capture_output=True, text=True, check=True).stdout
        return float(output.split()[0]) * 1e-9 * steps

    return run


def timed(step: Callable[[np.ndarray, Any], Any]) -> Callable[[int], float]:
    """Return the timer of a step in Python: CPU seconds of a number of steps, each with the memory of the last."""
    observations = np.random.default_rng(0).uniform(-0.5, 0.5, (64, 1, 18)).astype(np.float32)

    def run(steps: int) -> float:
        memory = None
        start = time.process_time()
        for k in range(steps):
            memory = step(observations[k % 64], memory)
        return time.process_time() - start

    return run


def aoti_runner(contract: Mapping[str, Any], folder: Path) -> Callable[[Mapping[str, Any]], Any]:
    """Return the package in use in this process, whose CPU time is measured."""
    package: Any = torch._inductor.aoti_load_package(str(folder / "policy_aoti.pt2"), run_single_threaded=True)
    names = [x["name"] for x in contract["inputs"]]

    def run(inputs: Mapping[str, Any]) -> Any:
        outputs = package({name: torch.as_tensor(inputs[name]) for name in names})
        return {name: x.numpy() for name, x in outputs.items()}

    return run


def runner_step(run: Callable[[Mapping[str, Any]], Any], memory_size: int) -> Callable[[np.ndarray, Any], Any]:
    """Return a step of a file in use."""
    fixed = {"mask": np.ones((1, 5), bool), "noise": np.full((1, 1), 0.5, np.float32)}
    zeros = {"memory": np.zeros((1, memory_size), np.float32), "is_first": np.zeros(1, bool)} if memory_size else {}

    def step(obs: np.ndarray, memory: Any) -> Any:
        inputs = {"obs": obs, **fixed, **zeros}
        if memory is not None:
            inputs["memory"] = memory
        return run(inputs).get("memory_out")

    return step


def timers(memory_size: int, folder: Path) -> dict[str, tuple[Callable[[int], float], int]]:
    """Return the timer and the bytes of each way to act."""
    actor = make_actor(memory_size)
    policy = build_agent_policy(actor.policy, 0)
    contract = make_contract(policy, "agent", ORIGIN)
    agent = actor.agent("agent")
    found: dict[str, tuple[Callable[[int], float], int]] = {
        "load_actor": (timed(lambda obs, memory: agent(obs[0], memory)[1]), 0)
    }
    for name in MODULES:
        kind = get_format(name)
        kind.write(policy, contract, folder)
        size = (folder / kind.FILES[0]).stat().st_size
        if name == "c":
            found[name] = (c_steps(folder), size)
            continue
        try:
            run = aoti_runner(contract, folder) if name == "aoti" else kind.open(contract, folder)
            found[name] = (timed(runner_step(run, memory_size)), size)
        except UnavailableError as error:
            print(f"{name}: {error}")
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]


def main() -> None:
    """Measure and print; add the rows to the table of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=RESULTS / "deploy.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for memory_size in (0, 64):
        with tempfile.TemporaryDirectory() as folder:
            ways = timers(memory_size, Path(folder))
            steps = {name: 200_000 if name == "c" else 500 for name in ways}
            for name, (run, _) in ways.items():
                run(steps[name] // 2)  # the first steps are slower
            times: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, (run, _) in ways.items():
                    times[name].append(run(steps[name]) / steps[name] * 1e6)
        rows: list[dict[str, object]] = []
        for name, (_, size) in ways.items():
            low, high = interval(times[name])
            median = statistics.median(times[name])
            print(f"memory {memory_size:2}  {name:10}  {median:8.2f} us  ({low:.2f} to {high:.2f})  {size:9,} bytes")
            facts = {"actor": "64-64", "memory": memory_size, "form": name, "rounds": options.rounds}
            measured = {"step_us": round(median, 3), "low_us": round(low, 3), "high_us": round(high, 3), "bytes": size}
            rows.append({**circumstances(), **facts, **measured})
        append(options.out, rows)


if __name__ == "__main__":
    main()

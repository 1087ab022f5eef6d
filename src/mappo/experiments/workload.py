"""The reference work, in parts that can be timed, and the clock.

It is that of the MAPPO paper on spread (arXiv:2103.01955): 3 agents, 128 environments of 25 steps, actor and critic of
64-64, 10 epochs, 1 minibatch. All agents acting once is one environment step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor

from mappo import envs
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.backend.cuda_graphs import WARM_UP
from mappo.config import Config
from mappo.config.presets import preset
from mappo.core.protocols import Environment
from mappo.rollouts.collector import Collector

RECIPES = {
    "full": "tanh, LayerNorm, normalised values, Huber and clipped value loss",
    "plain": "ReLU, squared value loss",
}
TURN = 0.25  # seconds that each part is repeated for in each round
WHOLE = "end to end"


class Cost(NamedTuple):
    """Seconds for 1,000 environment steps."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class TimedPart:
    """Something to be timed: what one rollout asks of it."""

    name: str
    work: Callable[[], object]
    before: Callable[[], object] | None = None
    """What it needs each time, and is not timed."""


def reference(recipe: str, num_envs: int = 128) -> Config:
    """The settings of the reference work, by one of the `RECIPES`."""
    config = preset("spread", "paper")
    config = replace(config, env=replace(config.env, num_envs=num_envs))
    if recipe == "full":
        return config
    network = replace(config.network, activation="relu", layer_norm=False)
    return replace(
        config, network=network, ppo=replace(config.ppo, value_clip=None, huber_delta=None, value_norm=False)
    )


class Workload:
    """Environments, learner and collector of one config: what `mappo train` does at each update, without its files."""

    def __init__(self, config: Config, device: torch.device | str = "cpu", seed: int = 1) -> None:
        self.config, self.device = replace(config, run=replace(config.run, seed=seed)), torch.device(device)
        self.env = self.environment()
        seeds = self.config.run.all_seeds
        agents = [MAPPO(self.env.spec, config, self.device, own) for own in seeds]
        self.agent = agents[0] if len(agents) == 1 else MultiSeed(agents)
        noise = [torch.Generator(self.device) for _ in seeds]
        for own, generator in zip(seeds, noise, strict=True):
            generator.manual_seed(own)
        self.collector = Collector(self.env, self.agent, config.ppo.rollout_length, self.env.reset(seed), noise)

    @property
    def steps(self) -> int:
        """Environment steps of one update, of each seed."""
        return self.config.steps_per_update

    def environment(self) -> Environment:
        """New ones of the same kind."""
        return envs.for_training("spread", self.config, self.device)[0]

    def update(self) -> dict[str, float]:
        """One rollout, its gradient steps, and the numbers that a log would read."""
        rollout, episodes = self.collector.collect()
        metrics = {**episodes, **self.agent.update(rollout)}
        numbers = cast("list[float]", torch.stack([x.float().mean() for x in metrics.values()]).tolist())
        return dict(zip(metrics, numbers, strict=True))

    def parts(self) -> list[TimedPart]:
        """The whole, and what it is made of, each alone. A GPU launches the whole as recordings, environment and policy
        alone kernel by kernel.
        """
        whole = TimedPart(WHOLE, self.update)
        return [self._environment_alone(), self._policy_alone(), self._update_alone(), whole]

    def _environment_alone(self) -> TimedPart:
        env, rollout = self.environment(), self.collector.rollout
        env.reset(1)
        actions = torch.randint(5, rollout.action.shape, device=self.device, dtype=rollout.action.dtype)

        def work() -> None:
            for action in actions:
                env.step(action)

        return TimedPart("environment alone", work)

    def _policy_alone(self) -> TimedPart:
        step, rollout = self.collector.steps[0], self.collector.rollout
        noise = torch.rand(rollout.action.shape, device=self.device)

        @torch.no_grad()
        def work() -> None:
            memory = self.agent.new_memory(self.config.env.num_envs)
            for t in range(len(noise)):
                _, _, memory = self.agent.act(replace(step, obs=rollout.obs[t]), memory, noise=noise[t])

        return TimedPart("policy alone", work)

    def _update_alone(self) -> TimedPart:
        # On a new rollout each time: learned from again and again, one would drive the ratios out of all bounds.
        return TimedPart("update alone", lambda: self.agent.update(self.collector.rollout), self.collector.collect)


def matmul_part(training: Workload) -> TimedPart:
    """The matrix products of this work and nothing else, one critic row for each environment, in preallocated memory.

    They are `torch.mm`'s, which no learner with these networks (without memory) gets below in the same precision, where
    `mappo.backend.matmul` has no faster ones.
    """
    config, spec, device = training.config, training.env.spec, training.device
    length, envs, inputs = config.ppo.rollout_length, config.env.num_envs, spec.obs_shape[0]
    actor, critic = (
        (inputs, *config.network.hidden, sum(spec.heads)),
        (inputs * spec.num_agents, *config.network.hidden, 1),
    )
    nets = (actor, envs * spec.num_agents), (critic, envs)

    def buffers(rows: int, sizes: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
        return (
            [torch.randn(rows, n, device=device) for n in sizes],
            [torch.randn(o, i, device=device) for i, o in pairwise(sizes)],
        )

    def forward(x: list[Tensor], w: list[Tensor]) -> None:
        for layer, weight in enumerate(w):
            torch.mm(x[layer], weight.t(), out=x[layer + 1])

    act, last = (buffers(rows, sizes) for sizes, rows in nets)
    batches = [buffers(rows * length, sizes) for sizes, rows in nets]
    gradients = [([torch.randn_like(x) for x in xs], [torch.empty_like(w) for w in ws]) for xs, ws in batches]

    def work() -> None:
        for _ in range(length):
            forward(*act)
        forward(*batches[1])  # the values, and those behind the last step
        forward(*last)
        for _ in range(config.ppo.epochs):
            for (x, w), (dx, dw) in zip(batches, gradients, strict=True):
                forward(x, w)
                for layer in reversed(range(len(w))):
                    torch.mm(dx[layer + 1].t(), x[layer], out=dw[layer])
                    if layer:  # the input needs no gradient
                        torch.mm(dx[layer + 1], w[layer], out=dx[layer])

    return TimedPart("bare matrix products", work)


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Waits for all that a device was given to do; kernels of a GPU run behind the program's back."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def measure(
    parts: Sequence[TimedPart],
    steps: int,
    rounds: int,
    sync: Callable[[], None] = lambda: None,
    repeats: int | None = None,
) -> dict[str, list[Cost]]:
    """What each part takes in each round. Parts take turns, so that whatever else the machine does slows all alike.

    Args:
        steps: environment steps of one run of a part. sync: called before the clocks are read.
        repeats: runs of each part in each round; by default as many as fill `TURN`.
    """

    def timed(part: TimedPart, times: int) -> Cost:
        cpu = wall = 0.0
        for _ in range(times):
            if part.before is not None:
                part.before()
            sync()
            cpu, wall = cpu - time.process_time(), wall - time.perf_counter()
            part.work()
            sync()
            cpu, wall = cpu + time.process_time(), wall + time.perf_counter()
        return Cost(cpu * 1000 / (times * steps), wall * 1000 / (times * steps))

    counts: list[int] = []
    for part in parts:  # burn-in
        timed(part, WARM_UP + 1)  # and what a GPU launches as a whole is recorded
        once = timed(part, 1).wall * steps / 1000 if repeats is None else 0.0
        counts.append(repeats or max(1, int(TURN / max(once, 1e-6))))
    spent: dict[str, list[Cost]] = {part.name: [] for part in parts}
    for _ in range(rounds):
        for part, count in zip(parts, counts, strict=True):
            spent[part.name].append(timed(part, count))
    return spent

"""The reference work of benchmarks, in timed parts, and the stopwatch.

The work is taken from the MAPPO paper on spread (Yu et al. 2022, arXiv:2103.01955): 3 agents, 128 environments of 25
steps, actor and critic of 64-64, 10 epochs, 1 minibatch. In an environment step all agents act once.
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
from mappo.backend.cuda_graphs import WARM_UP
from mappo.config import Config
from mappo.core.protocols import Environment
from mappo.training.setup import make_collector

RECIPES = {
    "full": "tanh, LayerNorm, normalised values, Huber and clipped value loss",
    "plain": "ReLU, squared value loss",
}
TURN = 0.25  # seconds of repetitions of each part in each round
WHOLE = "end to end"


class Cost(NamedTuple):
    """Seconds for 1,000 environment steps."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class TimedPart:
    """Work to be timed, as much as a rollout asks for."""

    name: str
    work: Callable[[], object]
    before: Callable[[], object] = lambda: None
    """Preparation before each run, not timed."""


def reference(recipe: str, num_envs: int = 128) -> Config:
    """Return the settings of the reference work, by a name of `RECIPES`."""
    config = envs.preset("spread", "paper")
    config = replace(config, env=replace(config.env, num_envs=num_envs))
    if recipe == "full":
        return config
    network = replace(config.network, activation="relu", layer_norm=False)
    return replace(
        config, network=network, ppo=replace(config.ppo, value_clip=None, huber_delta=None, value_norm=False)
    )


class Workload:
    """Environments, learner and collector of a config: the work of `mappo train` without its files.

    Args:
        config: settings; its seed is replaced.
        device: device of environments and learner.
        seed: first seed.
    """

    def __init__(self, config: Config, device: torch.device | str = "cpu", seed: int = 1) -> None:
        self.config = replace(config, run=replace(config.run, seed=seed))
        self.device = torch.device(device)
        self.env = self.environment()
        agents = [MAPPO(self.env.spec, config, self.device, agent_seed) for agent_seed in self.config.run.all_seeds]
        self.agent, self.collector = make_collector(agents, self.env)

    @property
    def steps(self) -> int:
        """Return the environment steps of an update, of each seed."""
        return self.config.steps_per_update

    def environment(self) -> Environment:
        """Return new environments of the same kind."""
        return envs.for_training("spread", self.config, self.device)[0]

    def update(self) -> dict[str, float]:
        """Run a rollout and its gradient steps; return the metrics of a log."""
        rollout, episode_metrics = self.collector.collect()
        metrics = {**episode_metrics, **self.agent.update(rollout)}
        values = cast("list[float]", torch.stack([x.float().mean() for x in metrics.values()]).tolist())
        return dict(zip(metrics, values, strict=True))

    def parts(self) -> list[TimedPart]:
        """Return the parts of an update, each alone, and the whole.

        A GPU runs update and whole as CUDA graphs; environment and policy alone are launched kernel by kernel.
        """
        whole = TimedPart(WHOLE, self.update)
        return [self._environment_alone(), self._policy_alone(), self._update_alone(), whole]

    def _environment_alone(self) -> TimedPart:
        env = self.environment()
        env.reset(1)
        action = self.collector.rollout.action  # (T, E, A, D)
        actions = torch.randint(5, action.shape, device=self.device, dtype=action.dtype)

        def work() -> None:
            for action in actions:
                env.step(action)

        return TimedPart("environment alone", work)

    def _policy_alone(self) -> TimedPart:
        step = self.collector.steps[0]
        rollout = self.collector.rollout
        noise = torch.rand(rollout.action.shape, device=self.device)  # (T, E, A, D)

        @torch.no_grad()
        def work() -> None:
            memory = self.agent.new_memory(self.config.env.num_envs)
            for t in range(len(noise)):
                _, _, memory = self.agent.act(replace(step, obs=rollout.obs[t]), memory, noise=noise[t])

        return TimedPart("policy alone", work)

    def _update_alone(self) -> TimedPart:
        # Each update needs a new rollout: repeated updates on a rollout would drive the ratios out of bounds.
        return TimedPart("update alone", lambda: self.agent.update(self.collector.rollout), self.collector.collect)


# A network's activations of each layer, and its weights.
_Buffers = tuple[list[Tensor], list[Tensor]]


def matmul_part(workload: Workload) -> TimedPart:
    """Return the matrix products of the work alone, with a critic row for each environment, in preallocated memory.

    The products are computed by `torch.mm`. No learner with these networks (without memory) takes less time in the same
    precision, except where `mappo.backend.matmul` has faster products.
    """
    config = workload.config
    spec = workload.env.spec
    length = config.ppo.rollout_length
    obs_size = spec.obs_shape[0]
    actor_sizes = (obs_size, *config.network.hidden, sum(spec.heads))
    critic_sizes = (obs_size * spec.num_agents, *config.network.hidden, 1)
    num_envs = config.env.num_envs
    networks = [(num_envs * spec.num_agents, actor_sizes), (num_envs, critic_sizes)]
    actor_step, critic_step = [_buffers(rows, sizes, workload.device) for rows, sizes in networks]
    batches = [_buffers(rows * length, sizes, workload.device) for rows, sizes in networks]
    gradients = [([torch.randn_like(x) for x in xs], [torch.empty_like(w) for w in ws]) for xs, ws in batches]

    def work() -> None:
        for _ in range(length):
            _forward(*actor_step)
        _forward(*batches[1])  # values of all steps
        _forward(*critic_step)  # values behind the last step
        for _ in range(config.ppo.epochs):
            for batch, gradient in zip(batches, gradients, strict=True):
                _forward(*batch)
                _backward(batch, gradient)

    return TimedPart("bare matrix products", work)


def _buffers(rows: int, sizes: tuple[int, ...], device: torch.device) -> _Buffers:
    activations = [torch.randn(rows, size, device=device) for size in sizes]
    weights = [torch.randn(outputs, inputs, device=device) for inputs, outputs in pairwise(sizes)]
    return activations, weights


def _forward(activations: list[Tensor], weights: list[Tensor]) -> None:
    for layer, weight in enumerate(weights):
        torch.mm(activations[layer], weight.t(), out=activations[layer + 1])


def _backward(batch: _Buffers, gradient: _Buffers) -> None:
    activations, weights = batch
    activation_grads, weight_grads = gradient
    for layer in reversed(range(len(weights))):
        torch.mm(activation_grads[layer + 1].t(), activations[layer], out=weight_grads[layer])
        if layer:  # the input needs no gradient
            torch.mm(activation_grads[layer + 1], weights[layer], out=activation_grads[layer])


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Return a function to wait for all work of a device; a GPU runs its kernels asynchronously."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def measure(
    parts: Sequence[TimedPart],
    steps: int,
    rounds: int,
    sync: Callable[[], None] = lambda: None,
    repeats: int | None = None,
) -> dict[str, list[Cost]]:
    """Return the cost of each part in each round.

    Parts take turns: other load on the machine slows all parts alike.

    Args:
        parts: work to time.
        steps: environment steps in a run of a part.
        rounds: number of turns of each part.
        sync: called before the clocks are read.
        repeats: runs of each part in each round; by default as many as fill `TURN`.
    """
    counts: list[int] = []
    for part in parts:
        _time_part(part, WARM_UP + 1, steps, sync)  # burn-in; a GPU captures its CUDA graphs meanwhile
        once = _time_part(part, 1, steps, sync).wall * steps / 1000 if repeats is None else 0.0
        counts.append(repeats or max(1, int(TURN / max(once, 1e-6))))
    costs: dict[str, list[Cost]] = {part.name: [] for part in parts}
    for _ in range(rounds):
        for part, count in zip(parts, counts, strict=True):
            costs[part.name].append(_time_part(part, count, steps, sync))
    return costs


def _time_part(part: TimedPart, repeats: int, steps: int, sync: Callable[[], None]) -> Cost:
    """Return the mean cost of a part over some runs, without the preparation before each run."""
    cpu = 0.0
    wall = 0.0
    for _ in range(repeats):
        part.before()
        sync()
        cpu -= time.process_time()
        wall -= time.perf_counter()
        part.work()
        sync()
        cpu += time.process_time()
        wall += time.perf_counter()
    return Cost(cpu * 1000 / (repeats * steps), wall * 1000 / (repeats * steps))

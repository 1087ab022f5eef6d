"""Many learners at once: runs of one config that differ in nothing but their seeds, computed side by side.

The arithmetic is the learner's own, under `torch.func.vmap`: one call does for all seeds what `MAPPO` does for one, on
weights that lie along a first axis (S). What is cheap or draws random numbers is done by each learner in turn.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap  # pyright: ignore[reportUnknownVariableType]

from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch
from mappo.backend.cuda_graphs import GraphedUpdate
from mappo.core.timestep import Rollout, TimeStep
from mappo.errors import UserError

Weights = dict[str, Tensor]
IN_TURN = 2048  # agents' rows in a minibatch of one seed: on a CPU all seeds' activations then no longer fit its caches


class MultiSeed:
    """S learners as one: to a `Collector` it is a learner of S x E environments, the first E of which are the first's.

    Each keeps its own optimizer, generator, statistics and schedule, and may be asked for its actor or its state as
    always: its weights are views of those that are computed with. In exact arithmetic each learns what it would alone.

    Args:
        agents: of one spec and config, on one device, fresh or loaded.
    """

    def __init__(self, agents: Sequence[MAPPO]) -> None:
        self.agents, first = list(agents), agents[0]
        self.spec, self.config, self.device = first.spec, first.config, first.device
        self._first, self._caller = first, _Caller(first.network)
        self._weights = {
            name: torch.stack([agent.network.get_parameter(name).detach() for agent in agents])
            for name, parameter in first.network.named_parameters()
            if parameter.requires_grad
        }
        for name, stacked in self._weights.items():
            stacked.requires_grad_().grad = torch.zeros_like(stacked)
            for agent, own, gradient in zip(agents, stacked.detach(), cast(Tensor, stacked.grad), strict=True):
                parameter = agent.network.get_parameter(name)
                parameter.data, parameter.grad = own, gradient
        # Statistics, and weights that an encoder of the user's does not learn.
        held = [dict(agent.network.named_buffers()) | dict(agent.network.named_parameters()) for agent in agents]
        names = [name for name in first.network.state_dict() if name in held[0] and name not in self._weights]
        self._statistics = {name: torch.stack([own[name].detach() for own in held]) for name in names}
        for name, stacked in self._statistics.items():
            for theirs, own in zip(held, stacked, strict=True):
                theirs[name].data = own
        self.graphed_update = GraphedUpdate(self.device)

    @torch.no_grad()
    def check_encoder(self) -> None:
        """Raises UserError where an encoder of the user's cannot be computed for many seeds at once."""
        agents, first = self.spec.num_agents, self._first
        actor, critic = first.network.actor, first.network.critic
        for tower, rows in ((actor, (2, agents)), (critic, (2,) if first.team_rows else (2, agents))):
            zeros = torch.zeros(len(self.agents), *rows, *tower.shape, device=self.device)

            def features(weights: Weights, x: Tensor, tower: Any = tower) -> Tensor:
                return self._call(weights, tower.encode, x)

            try:
                cast(Any, vmap(features))(self._weights | self._statistics, zeros)
            except RuntimeError as error:
                raise UserError(
                    f"network.encoder {self.config.network.encoder} cannot be computed for several seeds at once "
                    f"({str(error).splitlines()[0]}): train them one by one, with run.seeds 1"
                ) from error

    @torch.no_grad()
    def act(
        self, step: TimeStep, memory: Tensor | None = None, *, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `MAPPO.act`, of S x E environments: each seed's own act in its own."""
        names = ("obs", "mask", "is_first", "active")
        told: dict[str, Tensor | None] = {n: getattr(step, n) for n in names} | {"memory": memory, "noise": noise}
        given = {n: x.reshape(len(self.agents), -1, *x.shape[1:]) for n, x in told.items() if x is not None}

        def act(weights: Weights, given: dict[str, Tensor]) -> dict[str, Tensor]:
            answers = self._call(weights, self._first.policy, **given)
            return {n: x for n, x in zip(("action", "log_prob", "memory"), answers, strict=True) if x is not None}

        answer = cast(Any, vmap(act))(self._weights | self._statistics, given)
        answer = {name: x.flatten(0, 1) for name, x in answer.items()}
        return answer["action"], answer["log_prob"], answer.get("memory")

    def new_memory(self, num_envs: int) -> tuple[Tensor | None, Tensor | None]:
        """As `MAPPO.new_memory`."""
        return self._first.new_memory(num_envs)

    def env_action(self, action: Tensor) -> Tensor:
        """As `MAPPO.env_action`."""
        return self._first.env_action(action)

    def update(self, rollout: Rollout, skip: Sequence[bool] = ()) -> dict[str, Tensor]:
        """Learns from one rollout of S x E environments.

        Args:
            skip: seeds that learn nothing from it; not all of them.

        Returns:
            As `MAPPO.update`, each `(S,)`; of those that skip it NaN, and no epoch.
        """
        now, shares = [agent.set_schedule() for agent in self.agents], self._seed_slices(rollout)
        going = [not skips for skips in skip] or [True] * len(self.agents)
        drawn = [
            a.epoch_orders(rollout.slice_envs(part)) if goes else ()
            for a, part, goes in zip(self.agents, shares, going, strict=True)
        ]
        anyone = drawn[going.index(True)]  # who skips it draws nothing, and is computed by another's order
        orders = [torch.stack(own, 1) for own in zip(*(x or anyone for x in drawn), strict=True)]  # (epochs, S, rows)
        if all(going):
            metrics, epochs = self.graphed_update(rollout, self._learn, orders, self.config.allows_graphs)
            metrics = {name: x.clone() for name, x in metrics.items()}  # as in `MAPPO.update`
        else:
            metrics, epochs = self._learn(rollout, *orders, active_seeds=going)
        for agent in self.agents:
            agent.updates += 1
        told = {k: torch.full((len(self.agents),), v, device=self.device) for k, v in now[0].items()}  # alike for all
        return metrics | told | {"epochs": epochs}

    def _learn(
        self, rollout: Rollout, orders: Tensor | None = None, active_seeds: Sequence[bool] = ()
    ) -> tuple[dict[str, Tensor], Tensor]:
        """As `MAPPO`'s, orders `(epochs, S, rows)`; seeds that skip it, or that the KL stops, are not moved."""
        ppo, count, shares = self.config.ppo, len(self.agents), self._seed_slices(rollout)
        learns = active_seeds = list(active_seeds) or [True] * count
        # Who skips it is computed with another's, and does nothing with that.
        own = [
            rollout.slice_envs(shares[k if goes else active_seeds.index(True)]) for k, goes in enumerate(active_seeds)
        ]
        batch, metrics, memories = self._prepare(own, again=[not goes for goes in active_seeds])
        steps: list[dict[str, Tensor]] = []
        counted = torch.ones(ppo.epochs * ppo.minibatches, count, dtype=torch.bool, device=self.device)
        for k in [k for k, goes in enumerate(active_seeds) if not goes]:
            counted[:, k] = False
        for epoch in range(ppo.epochs):
            if epoch and ppo.recompute_advantages:
                batch, _, later = self._prepare(own, again=[True] * count)
                memories = [new if goes else old for new, old, goes in zip(later, memories, active_seeds, strict=True)]
            parts = self._minibatches(batch, orders[epoch]) if orders is not None else [batch]
            last = [self._gradient_step(part, active_seeds) for part in parts]
            steps += last
            if ppo.target_kl is not None:
                kl = cast(list[float], torch.stack([s["approx_kl"] for s in last]).mean(0).tolist())
                active_seeds = [g and not x > ppo.target_kl for g, x in zip(active_seeds, kl, strict=True)]
                for k in [k for k, goes in enumerate(active_seeds) if not goes]:
                    counted[len(steps) :, k] = False
                if not any(active_seeds):
                    break
        counted = counted[: len(steps)]
        for name in steps[0]:
            metrics[name] = torch.where(counted, torch.stack([s[name] for s in steps]), 0.0).sum(0) / counted.sum(0)
        metrics = {name: torch.where(counted[0], x, torch.nan) for name, x in metrics.items()}
        metrics["skipped_steps"] = torch.where(counted[0], metrics["skipped_steps"] * counted.sum(0), 0.0)
        for agent, rollout_, memory, learned in zip(self.agents, own, memories, learns, strict=True):
            if learned:
                agent.finish_update(rollout_, memory)
        return metrics, counted.sum(0) / ppo.minibatches

    def _seed_slices(self, rollout: Rollout) -> list[slice]:
        """Whose environments are which."""
        size = rollout.ended.shape[1] // len(self.agents)
        return [slice(k * size, (k + 1) * size) for k in range(len(self.agents))]

    def _prepare(
        self, own: Sequence[Rollout], again: Sequence[bool]
    ) -> tuple[Batch, dict[str, Tensor], list[Tensor | None]]:
        """Each learner's batch, by itself; then all of them, `(S, ...)`."""
        made = [agent.prepare(part, done) for agent, part, done in zip(self.agents, own, again, strict=True)]
        tensors = [b.tensors() for b, _, _ in made]
        batch = Batch.of({name: torch.stack([x[name] for x in tensors]) for name in tensors[0]})
        metrics = {name: torch.stack([m[name] for _, m, _ in made]) for name in made[0][1]}
        return batch, metrics, [memory for _, _, memory in made]

    def _minibatches(self, batch: Batch, orders: Tensor) -> Iterator[Batch]:
        """As `Batch.minibatches`, each seed's by its own order `(S, rows)`."""
        select = cast(Any, vmap(torch.index_select, (0, None, 0)))
        for index in orders.chunk(self.config.ppo.minibatches, 1):
            yield batch.map(lambda x, i=index: select(x, self._first.row_axis, i))

    def _gradient_step(self, batch: Batch, active_seeds: Sequence[bool]) -> dict[str, Tensor]:
        """As `MAPPO`'s: the gradient of a sum of losses that share no weight is each one's own."""
        gradients = {name: cast(Tensor, x.grad) for name, x in self._weights.items()}
        for gradient in gradients.values():
            gradient.zero_()  # in place: learners hold views of them
        large = self.device.type == "cpu" and batch.weight[0].numel() >= IN_TURN
        metrics = self._losses_in_turn(batch) if large else self._losses_at_once(batch)
        for name in ("actor", "critic"):
            mine = [x for parameter, x in gradients.items() if parameter.startswith(name + ".")]
            metrics[f"grad_norm_{name}"] = clip_grad_norm_per_seed(mine, self.config.ppo.max_grad_norm or math.inf)
        broken = ~(metrics["total_loss"] + metrics["grad_norm_actor"] + metrics["grad_norm_critic"]).isfinite()
        metrics["skipped_steps"] = broken.to(metrics["total_loss"].dtype)
        for agent, stays, goes in zip(self.agents, broken.float(), active_seeds, strict=True):
            if goes:
                cast(Any, agent.optimizer).found_inf = stays
                agent.optimizer.step()
        return metrics

    def _losses_at_once(self, batch: Batch) -> dict[str, Tensor]:
        """Each seed's gradient, and its metrics."""

        def loss(weights: Weights, part: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            return self._call(weights, self._first.loss, Batch.of(part), self._first.entropy_weight)

        total, metrics = cast(Any, vmap(loss))(self._weights | self._statistics, batch.tensors())
        total.sum().backward()
        return metrics

    def _losses_in_turn(self, batch: Batch) -> dict[str, Tensor]:
        """The same, seed by seed, by the learners' own weights and gradients, which are views; of all seeds, those too
        that are not going to be moved.
        """
        parts = [batch.map(lambda x, k=k: x[k]) for k in range(len(self.agents))]
        told = [agent.backward(part, agent.entropy_weight) for agent, part in zip(self.agents, parts, strict=True)]
        return {name: torch.stack([metrics[name] for metrics in told]) for name in told[0]}

    def _call(self, weights: Mapping[str, Tensor], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A function of the first learner's, with the network's weights and statistics replaced by one seed's."""
        renamed = {f"network.{name}": x for name, x in weights.items()}
        return functional_call(self._caller, renamed, (function, *args), kwargs)


class _Caller(nn.Module):
    """`functional_call` replaces the weights of a module while it calls it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)


def clip_grad_norm_per_seed(gradients: Sequence[Tensor], limit: float) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_` for each entry of the first axis: in place; the norms `(S,)` before."""
    norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    scale = (limit / (norm + 1e-6)).clamp_max(1.0)
    for g in gradients:
        g.mul_(scale.reshape(-1, *(1,) * (g.ndim - 1)))
    return norm

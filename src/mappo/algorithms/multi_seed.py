"""Several learners with the same config and different seeds, trained on a common environment: `MultiSeed`.

On a CPU the learners act and learn in turn: bit for bit the single runs. On a GPU acting and gradient steps
are computed for all seeds in a single call, by `torch.func.vmap` over weights with a leading axis (S).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap  # pyright: ignore[reportUnknownVariableType]

from mappo.algorithms.critic import Values
from mappo.algorithms.epochs import learn, scalars
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch
from mappo.algorithms.optimizer import step_if_finite
from mappo.backend.cuda_graphs import Graphed
from mappo.core.slices import equal_slices
from mappo.core.timestep import Rollout, TimeStep
from mappo.errors import UserError


class MultiSeed:
    """S learners with the interface of a single learner, of S x E environments.

    The first E environments belong to the first learner. Each learner keeps its own optimizer, generator, statistics
    and schedule, and can be asked for its actor or its state at any time.

    Args:
        agents: learners with the same spec and config, on the same device.
    """

    def __init__(self, agents: Sequence[MAPPO]) -> None:
        self.agents = list(agents)
        first = agents[0]
        self.spec = first.spec
        self.config = first.config
        self.device = first.device
        self.static_shapes = first.static_shapes
        self.new_memory = first.new_memory
        self.env_action = first.env_action
        self._first = first
        # A user's loss may read tensors of its learner, which vmap would not take from each seed: then in turn.
        is_at_once = first.static_shapes and type(first) is MAPPO
        self._graphed = Graphed() if first.uses_graphs and is_at_once else None
        self._stacked = _StackedNetworks(agents) if is_at_once else None

    @torch.no_grad()
    def check_encoder(self) -> None:
        """Raise UserError where an encoder of the user's own cannot be computed for several seeds in a single call."""
        if self._stacked is None:
            return
        num_agents = self.spec.num_agents
        critic_rows = (2,) if self._first.team_rows else (2, num_agents)
        for network, rows in ((self._first.network.actor, (2, num_agents)), (self._first.network.critic, critic_rows)):
            zeros = torch.zeros(len(self.agents), *rows, *network.shape, device=self.device)
            try:
                self._stacked.vmap(network.encode, zeros)
            except RuntimeError as error:
                raise UserError(
                    f"network.encoder {self.config.network.encoder} cannot be computed for several seeds at once "
                    f"({str(error).splitlines()[0]}): train the seeds one by one, with run.seeds 1"
                ) from error

    @torch.no_grad()
    def act(
        self, step: TimeStep, memory: Tensor | None = None, *, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sample the actions of S x E environments, each learner in its own; see `MAPPO.act`."""
        slices = equal_slices(noise.shape[0], len(self.agents))
        if self._stacked is None:
            outputs = [
                agent.act(step.slice_envs(envs), None if memory is None else memory[envs], noise=noise[envs])
                for agent, envs in zip(self.agents, slices, strict=True)
            ]
            actions, log_probs, memories = zip(*outputs, strict=True)
            return torch.cat(actions), torch.cat(log_probs), None if memory is None else torch.cat(memories)
        names = ("obs", "mask", "is_first", "active")
        inputs: dict[str, Tensor] = {name: x for name, x in step.tensors().items() if name in names}
        inputs |= {"noise": noise} | ({} if memory is None else {"memory": memory})
        arguments = {name: x.reshape(len(self.agents), -1, *x.shape[1:]) for name, x in inputs.items()}

        def act(arguments: dict[str, Tensor]) -> dict[str, Tensor]:
            outputs = zip(("action", "log_prob", "memory"), self._first.policy(**cast(Any, arguments)), strict=True)
            return {name: x for name, x in outputs if x is not None}

        output = {name: x.flatten(0, 1) for name, x in self._stacked.vmap(act, arguments).items()}
        return output["action"], output["log_prob"], output.get("memory")

    def update(self, rollout: Rollout, skip: Sequence[bool] = ()) -> dict[str, Tensor]:
        """Learn from a rollout of S x E environments.

        Args:
            rollout: T steps of S x E environments.
            skip: for each seed, whether it learns nothing from this rollout; empty for no seed.

        Returns:
            As `MAPPO.update`, each `(S,)`.
        """
        # A skipped seed, or a seed that target_kl stops, would leave the common gradient step: then in turn.
        if self._stacked is not None and not any(skip) and self.config.ppo.target_kl is None:
            return self._update_at_once(rollout)
        skips = skip or [False] * len(self.agents)
        metrics = [
            # Contiguous, because the order of a sum depends on strides: bit for bit the single run.
            agent.update(r.map(torch.Tensor.contiguous), [is_skipped])
            for agent, r, is_skipped in zip(self.agents, self._split(rollout), skips, strict=True)
        ]
        return {name: torch.stack([m[name] for m in metrics]) for name in metrics[0]}

    def _update_at_once(self, rollout: Rollout) -> dict[str, Tensor]:
        """Learn from a rollout, with common gradient steps of all seeds."""
        schedules = [agent.set_schedule() for agent in self.agents]  # equal for all seeds
        orders = [agent.epoch_orders(r) for agent, r in zip(self.agents, self._split(rollout), strict=True)]
        order = None if orders[0] is None else torch.stack(cast("list[Tensor]", orders), 1)  # (epochs, S, rows)
        metrics, epochs = learn(self, self._graphed, rollout, order)
        for agent in self.agents:
            agent.updates += 1
        return metrics | scalars({**schedules[0], "epochs": epochs}, (len(self.agents),), self.device)

    def prepare(
        self, rollout: Rollout, recompute: bool = False
    ) -> tuple[Batch, dict[str, Tensor], list[tuple[Rollout, Values]]]:
        """Compute the training data of each learner; stack the batches `(S, ...)` and the metrics `(S,)`."""
        rollouts = self._split(rollout)
        prepared = [agent.prepare(r, recompute) for agent, r in zip(self.agents, rollouts, strict=True)]
        batches, metrics, values = zip(*prepared, strict=True)
        stacked = {name: torch.stack([m[name] for m in metrics]) for name in metrics[0]}
        return Batch.join(batches, torch.stack), stacked, list(zip(rollouts, values, strict=True))

    def minibatches(self, batch: Batch, order: Tensor | None) -> Iterable[Batch]:
        """Return the minibatches of one epoch, each seed's by its own permutation; `order` is `(S, rows)`."""
        if order is None:
            return [batch]
        select = cast(Any, vmap(torch.index_select, (0, None, 0)))
        axis = self._first.row_axis
        return (batch.map(lambda x, i=i: select(x, axis, i)) for i in order.chunk(self.config.ppo.minibatches, 1))

    def gradient_step(self, batch: Batch) -> dict[str, Tensor]:
        """Take a common gradient step: losses without common weights have separate gradients in their sum."""
        stacked = cast(_StackedNetworks, self._stacked)
        stacked.gradient.zero_()

        def loss(tensors: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            rows = Batch(**cast(Any, dict.fromkeys(vars(batch)) | tensors))
            return self._first.loss(rows, self._first.outputs(rows))

        total, metrics = stacked.vmap(loss, batch.tensors())
        total.sum().backward()
        optimizers = [agent.optimizer for agent in self.agents]
        gradients = self._first.optimizer.split(stacked.gradient)
        step_if_finite(optimizers, metrics, gradients, self.config.ppo.max_grad_norm)
        return metrics

    def _split(self, rollout: Rollout) -> list[Rollout]:
        """Return the rollout of each seed, as views."""
        return [rollout.slice_envs(envs) for envs in equal_slices(rollout.ended.shape[1], len(self.agents))]

    def finish_update(self, rollout: Rollout, values: list[tuple[Rollout, Values]]) -> None:
        """Finish the update of each learner; see `MAPPO.finish_update`."""
        for agent, (seed_rollout, seed_values) in zip(self.agents, values, strict=True):
            agent.finish_update(seed_rollout, seed_values)


class _StackedNetworks:
    """The weights and buffers of S networks along a leading axis; the networks keep views of them."""

    def __init__(self, agents: Sequence[MAPPO]) -> None:
        networks = [agent.network for agent in agents]
        optimizers = [agent.optimizer for agent in agents]
        weight = torch.stack([optimizer.weight for optimizer in optimizers])  # (S, P)
        self.gradient = torch.zeros_like(weight)  # (S, P)
        for optimizer, *rows in zip(optimizers, weight, self.gradient, strict=True):
            optimizer.move_(*rows)
        self._views = optimizers[0].views
        self._names = list(optimizers[0].parameters)
        self._weight = weight.detach().requires_grad_()
        self._weight.grad = self.gradient
        # Buffers: statistics, and untrained weights of a user's encoder.
        states = [dict(network.named_buffers()) | dict(network.named_parameters()) for network in networks]
        names = [name for name in networks[0].state_dict() if name in states[0] and name not in self._names]
        self._buffers = {name: torch.stack([state[name].detach() for state in states]) for name in names}
        for name, stacked in self._buffers.items():
            for state, buffer in zip(states, stacked, strict=True):
                state[name].data = buffer
        self._caller = _Caller(networks[0])

    def vmap(self, function: Callable[[Any], Any], arguments: Any) -> Any:
        """Call a function of the first network for all seeds, each with its own weights; arguments `(S, ...)`."""

        def call(weights: dict[str, Tensor], arguments: Any) -> Any:
            renamed = {f"network.{name}": x for name, x in weights.items()}
            return functional_call(self._caller, renamed, (function, arguments))

        weights = dict(zip(self._names, self._views(self._weight), strict=True))
        return cast(Any, vmap(call))(weights | self._buffers, arguments)


class _Caller(nn.Module):
    """Calls a function while `functional_call` replaces the weights of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[[Any], Any], arguments: Any) -> Any:
        return function(arguments)

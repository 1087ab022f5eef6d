"""MAPPO: advantages, epochs, minibatches, gradient steps. No environment, no files.

Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games", arXiv:2103.01955.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from mappo.algorithms.advantages import prepare
from mappo.algorithms.critic import Critic, Values
from mappo.algorithms.critic_input import CriticInputFunction, make_critic_input
from mappo.algorithms.epochs import learn, scalars, skipped_metrics
from mappo.algorithms.loss import Outputs, add_gradient, checked_loss, compute_outputs, loss, sum_over_pieces
from mappo.algorithms.minibatch import Batch, sample_orders
from mappo.algorithms.optimizer import Adam, step_if_finite
from mappo.backend.cuda_graphs import Graphed, supports_cuda_graphs
from mappo.backend.ranks import ALONE, Ranks
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.state_dict import flatten, subdict
from mappo.core.timestep import Rollout, TimeStep
from mappo.networks.actor_critic import ActorCritic, build_network
from mappo.networks.cnn import MAX_OUTPUTS
from mappo.policies.actor import Actor
from mappo.policies.policy import Policy

# Agents' rows in a piece of a minibatch: measured best for layers of 64, no worse for wider layers
# (docs/negative-results.md).
PIECE_ROWS = 20_000


class MAPPO:
    """The learner. A training loop of your own needs `Collector.collect` and `update`.

    Args:
        spec: the environment's.
        config: the settings, never changed.
        device: where network and rollouts are.
        seed: of the initial weights and of the minibatches; by default `config.run.seed`.
        critic_input: builds the critic's rows, in place of the config's choice; see `critic_input.CriticInputFunction`.
        ranks: the processes that learn together, each from a rollout of its own; they hold the same weights.
        check: on a CPU called at each step and before each piece of a minibatch; may raise, and leave an update undone.

    Raises:
        UserError: the config does not fit the environment.
    """

    extra_metrics: tuple[str, ...] = ()
    """Names of the metrics that the `loss` of a subclass adds."""
    loss_adds_up = False
    """True if the terms of a subclass's `loss` are means by `batch.mean`: needed for several processes."""

    def __init__(
        self,
        spec: Spec,
        config: Config,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        critic_input: CriticInputFunction | None = None,
        ranks: Ranks = ALONE,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        seed = config.run.seed if seed is None else seed
        self.spec = spec
        self.config = config
        self.device = torch.device(device)
        self.ranks = ranks
        self.sum_across = ranks.sum
        # Decided here for the whole run: with static shapes no tensor shape depends on data.
        self.static_shapes = supports_cuda_graphs(self.device)
        self._check = (lambda: None) if self.static_shapes else check
        self.uses_graphs = self.static_shapes and config.allows_graphs and ranks.size == 1  # replays could hang
        self.critic_input = make_critic_input(spec, config, critic_input)
        self.team_rows = self.critic_input.team_rows
        self.network = self.build_network(seed).to(self.device)
        self.policy = Policy(spec, config.network, self.network.actor, self.device)
        self.critic = Critic(self.network, self.critic_input, spec, config, self.static_shapes, ranks)
        self.value_norm = self.critic.value_norm
        self.optimizer = Adam(self.network, config.ppo, capturable=self.uses_graphs)
        self.entropy_weight = torch.zeros((), dtype=self.network.critic.head.weight.dtype, device=self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.updates = 0
        self.row_axis = 0 if config.chunk_length is None else 1  # axis of a batch's rows, or of its chunks
        self._graphed = Graphed() if self.uses_graphs else None

    def build_network(self, seed: int) -> ActorCritic:
        """Build actor and critic; a subclass may add modules to the result, which are trained and saved as well."""
        return build_network(self.spec, self.config, self.critic_input, seed)

    def act(
        self, step: TimeStep, memory: Tensor | None = None, *, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sample the actions of a rollout.

        Args:
            step: E environments of A agents.
            memory: the memory returned by the last call, `(E, A, H)`; None at first.
            noise: uniform in [0, 1), `(E, A, D)`; by default sampled from the learner's generator.

        Returns:
            Actions `(E, A, D)` as a rollout keeps them (`env_action` converts them for the environment), their
            log-probabilities `(E, A)`, and the memory.
        """
        self._check()
        if noise is None:
            shape = (*step.active.shape, self.spec.action_size)
            noise = torch.rand(shape, generator=self.generator, device=self.device)
        active = step.active if self.static_shapes or not step.active.all() else None  # None: nothing to replace
        action, log_prob, memory = self.policy(
            step.obs, memory, mask=step.mask, is_first=step.is_first, active=active, noise=noise
        )
        return action, cast(Tensor, log_prob), memory

    def new_memory(self, num_envs: int) -> Tensor | None:
        """Return the actors' memory at the start of episodes, zeros `(E, A, H)`; None for networks without a memory."""
        return self.policy.new_memory(num_envs)

    def env_action(self, action: Tensor) -> Tensor:
        """Convert actions `(E, A, D)` for the environment: continuous columns within their bounds."""
        return self.policy.distribution.to_bounds(action)

    def actor(self, sampled: bool = False) -> Actor:
        """Return the current policy, which shares the learner's weights.

        Args:
            sampled: sample actions, in place of the most probable actions. The samples have their own generator, so
                evaluation never changes training.
        """
        generator = torch.Generator(self.device).manual_seed(self.updates) if sampled else None
        return Actor(self.policy, sampled, generator)

    def update(self, rollout: Rollout, skip: Sequence[bool] = ()) -> dict[str, Tensor]:
        """Learn from a rollout.

        Args:
            rollout: T steps of E environments.
            skip: `(True,)` leaves weights and statistics as they are; the schedule goes on, the metrics are NaN.

        Returns:
            Scalars without gradient, means over all gradient steps; `docs/metrics.md` explains each.
        """
        schedule = self.set_schedule()
        if any(skip):
            self.critic.clear_memory()  # it was not advanced over the skipped rollout
            metrics, epochs = skipped_metrics(self.extra_metrics, self.device), 0
        else:
            metrics, epochs = learn(self, self._graphed, rollout, self.epoch_orders(rollout))
        self.updates += 1
        return metrics | scalars({**schedule, "epochs": epochs}, (), self.device)

    def set_schedule(self) -> dict[str, float]:
        """Set the learning rates and the entropy weight of the next update, and return them by name."""
        schedule = self.config.schedule(self.updates)
        self.optimizer.set_learning_rates(schedule["actor_lr"], schedule["critic_lr"])
        self.entropy_weight.fill_(schedule["entropy_weight"])
        return schedule

    def epoch_orders(self, rollout: Rollout) -> Tensor | None:
        """Sample a permutation of the batch's rows for each epoch, `(epochs, rows)`; None for a single minibatch."""
        return sample_orders(rollout.ended.numel(), self.config, self.generator)

    @torch.no_grad()
    def prepare(self, rollout: Rollout, recompute: bool = False) -> tuple[Batch, dict[str, Tensor], Values]:
        """Compute the training data of an update; see `advantages.prepare`."""
        return prepare(rollout, self.policy, self.critic, self.config, self.sum_across, recompute)

    def minibatches(self, batch: Batch, order: Tensor | None) -> Iterable[Batch]:
        """Return the minibatches of an epoch; `order` is a permutation of the rows, None for a single minibatch."""
        sum_across = None if self.ranks.size == 1 else self.ranks.sum
        return batch.minibatches(order, self.config.ppo.minibatches, self.row_axis, sum_across)

    def outputs(self, batch: Batch) -> Outputs:
        """Compute the outputs of actor and critic for a minibatch; see `loss.Outputs`."""
        return compute_outputs(self.policy, self.network.critic, batch)

    def loss(self, batch: Batch, outputs: Outputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a minibatch and its metrics; a subclass changes or extends both: docs/extending.md."""
        return loss(outputs, batch, self.config.ppo, self.entropy_weight)

    @property
    def is_own_loss(self) -> bool:
        """True where a subclass of the user computes the loss."""
        bound = (getattr(method, "__func__", None) for method in (self.loss, self.outputs))
        return tuple(bound) != (MAPPO.loss, MAPPO.outputs)

    @property
    def has_closed_form(self) -> bool:
        """True where formulas compute the gradient: not for a user's `loss` or encoder, nor for frozen weights."""
        has_backward = self.network.actor.has_backward and self.network.critic.has_backward
        is_trained = all(p.requires_grad for p in self.optimizer.parameters.values())
        return not self.is_own_loss and has_backward and is_trained and self.device.type == "cpu"

    @property
    def piece_rows(self) -> int:
        """Number of agents' rows in a piece of a minibatch on a CPU, whose activations then stay in the caches."""
        critic = self.network.critic.conv_outputs // (self.spec.num_agents if self.team_rows else 1)
        return max(1, min(PIECE_ROWS, MAX_OUTPUTS // max(1, self.network.actor.conv_outputs + critic)))

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Add the gradient of a minibatch's loss to the gradients of the weights; return its metrics."""
        is_cut = self.device.type == "cpu" and (self.loss_adds_up or not self.is_own_loss)
        num_pieces = -(-batch.weight.numel() // self.piece_rows) if is_cut else 1
        return sum_over_pieces(self._add_gradient, batch, num_pieces, self.row_axis)

    def _add_gradient(self, batch: Batch) -> dict[str, Tensor]:
        """Add the gradient of a minibatch, or of a piece; return its metrics."""
        self._check()
        if self.has_closed_form:
            return add_gradient(self.policy, self.network.critic, self.config.ppo, batch, self.entropy_weight)
        work = partial(self.loss, batch, self.outputs(batch))
        total, metrics = checked_loss(type(self).__name__, work, self.extra_metrics) if self.is_own_loss else work()
        total.backward()
        return metrics

    def gradient_step(self, batch: Batch) -> dict[str, Tensor]:
        """Take a gradient step on a minibatch and return its metrics. A non-finite gradient changes nothing."""
        self.optimizer.zero_grad()
        metrics = self.backward(batch)
        self.ranks.sum_([self.optimizer.gradient, *metrics.values()])
        gradients = self.optimizer.split(self.optimizer.gradient)
        step_if_finite([self.optimizer], metrics, gradients, self.config.ppo.max_grad_norm)
        return metrics

    def finish_update(self, rollout: Rollout, values: Values) -> None:
        """Advance the critic's memory and update the observation statistics. Call after the last gradient step."""
        self.policy.update_norm(rollout.obs, rollout.active, self.sum_across)
        self.critic.finish_update(rollout, values.memory_out)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state for an exact resume, by dotted names: `network.*`, `value_norm.*`, `optimizer.*`, ..."""
        return (
            flatten("network", self.network.state_dict())
            | self.critic.state_dict()
            | flatten("optimizer", self.optimizer.moments_by_name())
            | {"generator": self.generator.get_state(), "updates": torch.tensor(self.updates)}
        )

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state returned by `state_dict`. Without `critic_memory` the critic's memory starts at zero."""
        self.network.load_state_dict(subdict(state, "network"))
        self.critic.load_state_dict(state)
        self.optimizer.load_moments(subdict(state, "optimizer"))
        if "generator" in state:
            self.generator.set_state(state["generator"].cpu())
        self.updates = int(state["updates"])

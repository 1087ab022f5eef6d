"""`AgentPolicy`: the policy of a single agent, complete in itself, the model that all exported files hold."""

import torch
from torch import Tensor, nn

from mappo.core.spec import ActionHeads
from mappo.deploy.layers import GRUCell, Reader
from mappo.deploy.normal_quantile import normal_quantile
from mappo.functional.distributions import mode_of_heads, sample_heads
from mappo.policies.action_distribution import ActionDistribution

MASK = "mask"
MEMORY = "memory"
IS_FIRST = "is_first"
NOISE = "noise"


class AgentPolicy(nn.Module):
    """An agent's policy in float32: raw observation in, legal action of the agent's own space out.

    It holds this agent's parameters, id, statistics and bounds, and nothing of the critic.

    Args:
        reader: converts the arrays of an observation.
        encoder: maps `(B, F)`, or images `(B, H, W, C)`, to features.
        gru: the memory; None without.
        memory_norm: normalises the memory for the head; None without.
        head: outputs logits of all choices, then means, then log standard deviations unless they are constant.
        log_std: constant log standard deviations `(C,)`; None where the head outputs them.
        heads: the agent's action heads.
        distribution: of this agent alone, without padding.
    """

    def __init__(
        self,
        reader: Reader,
        encoder: nn.Module,
        gru: GRUCell | None,
        memory_norm: nn.LayerNorm | None,
        head: nn.Linear,
        log_std: Tensor | None,
        heads: ActionHeads,
        distribution: ActionDistribution,
    ) -> None:
        super().__init__()
        self.reader = reader
        self.encoder = encoder
        self.gru = gru
        self.memory_norm = memory_norm
        self.head = head
        self.register_buffer("fixed_log_std", log_std)
        self.fixed_log_std: Tensor | None
        self.heads = heads
        self.distribution = distribution

    @property
    def memory_size(self) -> int:
        """H; 0 without a memory."""
        return self.gru.hidden.in_features if self.gru is not None else 0

    def example_inputs(self, batch: int) -> dict[str, Tensor]:
        """Return inputs of this batch size, in the order of the files: zeros, all choices legal, noise 1/2."""
        inputs = {
            x.name: torch.zeros(batch, *x.shape, dtype=getattr(torch, x.dtype)) + (min(x.start, default=0))
            for x in self.reader.inputs
        }
        if self.heads.categorical:
            inputs[MASK] = torch.ones(batch, sum(self.heads.categorical), dtype=torch.bool)
        if self.gru is not None:
            inputs[MEMORY] = torch.zeros(batch, self.memory_size)
            inputs[IS_FIRST] = torch.ones(batch, dtype=torch.bool)
        inputs[NOISE] = torch.full((batch, self.heads.size), 0.5)
        return inputs

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Act for a step.

        Args:
            inputs: by name, each with a leading axis B:
                `obs` or `obs.KEY`: an array of the observation, in its own shape and units;
                `mask`: `(B, N)` bool, True where a choice is legal, for agents with choices. A head without a legal
                choice may choose anything;
                `memory`: `(B, H)`, the last `memory_out`; `is_first`: `(B,)` bool, True where the memory starts at
                zero, whatever it holds. Both for agents with a memory;
                `noise`: `(B, D)`, uniform in [0, 1), for `sampled_action`.

        Returns:
            By name: `action`, the most probable action in the agent's own space, `(B, *shape)`; `sampled_action`, an
            action drawn by the noise; `logits` `(B, N)`; `mean` and `log_std` `(B, C)`, before the bounds;
            `memory_out` `(B, H)`.
        """
        x = self.encoder(self.reader([inputs[array.name] for array in self.reader.inputs]))
        outputs: dict[str, Tensor] = {}
        if self.gru is not None:
            memory = torch.where(inputs[IS_FIRST].unsqueeze(-1), 0.0, inputs[MEMORY])
            x = self.gru(x, memory)
            outputs["memory_out"] = x
            x = x if self.memory_norm is None else self.memory_norm(x)
        dist_params = self._split(self.head(x))
        return self._act(dist_params, inputs.get(MASK), inputs[NOISE]) | dist_params | outputs

    def _split(self, y: Tensor) -> dict[str, Tensor]:
        """Split the outputs of the head."""
        num_choices = sum(self.heads.categorical)
        count = self.heads.continuous
        params = {"logits": y[:, :num_choices]} if num_choices else {}
        if count:
            params["mean"] = y[:, num_choices : num_choices + count]
            log_std = (
                y[:, num_choices + count :] if self.fixed_log_std is None else self.fixed_log_std.expand(y.shape[0], -1)
            )
            params["log_std"] = log_std
        return params

    def _act(self, params: dict[str, Tensor], mask: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        """Return both actions."""
        sizes = self.heads.categorical
        greedy: list[Tensor] = []
        sampled: list[Tensor] = []
        if sizes:
            legal = self.distribution.legal_choices(mask)
            greedy.append(mode_of_heads(params["logits"], sizes, legal))
            sampled.append(sample_heads(params["logits"], noise[:, : len(sizes)], sizes, legal)[0])
        if self.heads.continuous:
            deviation = torch.exp(params["log_std"]) * normal_quantile(noise[:, len(sizes) :])
            greedy.append(params["mean"])
            sampled.append(params["mean"] + deviation)
        names = {"action": greedy, "sampled_action": sampled}
        return {name: self._to_space(columns) for name, columns in names.items()}

    def _to_space(self, columns: list[Tensor]) -> Tensor:
        """Convert the columns of the heads to an action of the agent's own space."""
        action = columns[0] if len(columns) == 1 else torch.cat([x.to(torch.float32) for x in columns], -1)
        return self.heads.to_space_action(self.distribution.to_bounds(action))

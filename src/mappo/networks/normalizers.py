"""Running statistics of returns and of observations, in buffers, so that checkpoints hold them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mappo.functional.weighted import SumAcross, alone


class ValueNorm(nn.Module):
    """Statistics of returns: the critic learns returns of mean 0 and variance 1, everything else uses reward units.

    Exponential moving moments without the bias of their start, as in the code of arXiv:2103.01955 (appendix C). Unlike
    that code they are updated once per rollout, between the advantages and the targets.

    Args:
        decay: weight of the past at each `update`, in [0, 1).
    """

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        # Weight, sum and sum of squares. float64, because the variance is a difference of squares.
        self.moments: Tensor = nn.Buffer(torch.zeros(3, dtype=torch.float64))

    def update(self, x: Tensor, weight: Tensor, sum_across: SumAcross = alone) -> None:
        """Add returns `(*B)` with weights `(*B)`. A batch of weight 0, or not finite, changes nothing."""
        x = torch.where(weight != 0, x, 0.0).double()
        weight = weight.double()
        sums = sum_across(torch.stack([weight.sum(), (weight * x).sum(), (weight * x * x).sum()]))
        total = sums[0]
        batch = sums / total.clamp_min(1e-300)
        is_valid = (total > 0) & batch.isfinite().all()
        moments = self.decay * self.moments + (1 - self.decay) * batch
        self.moments.copy_(torch.where(is_valid, moments, self.moments))

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, float32 scalars; 0 and 1 before the first update."""
        weight = self.moments[0]
        mean, square = (self.moments[1:] / weight.clamp_min(1e-300)).unbind()
        std = (square - mean.square()).clamp_min(1e-4).sqrt()
        return mean.float(), torch.where(weight > 0, std, 1.0).float()

    def normalize(self, value: Tensor) -> Tensor:
        mean, std = self.mean_std()
        return (value - mean) / std

    def denormalize(self, value: Tensor) -> Tensor:
        mean, std = self.mean_std()
        return value * std + mean


class RunningNorm(nn.Module):
    """Observations of mean 0 and standard deviation 1 over the whole run, clipped at 10.

    Statistics are updated once per rollout, after its update, so that acting and learning use the same numbers.
    Evaluation leaves them as they are. Before the first update observations are only clipped.

    Args:
        features: F.
        groups: the group of each agent; each group has its own statistics. Empty for rows without agents.
    """

    LIMIT = 10.0

    def __init__(self, features: int, groups: Sequence[int] = ()) -> None:
        super().__init__()
        num_groups = len(set(groups)) or 1
        indices = torch.tensor(groups, dtype=torch.long) if num_groups > 1 else None
        self.register_buffer("groups", indices, persistent=False)
        self.groups: Tensor | None
        self.count: Tensor = nn.Buffer(torch.zeros(num_groups, 1, dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.zeros(num_groups, features, dtype=torch.float64))
        self.square: Tensor = nn.Buffer(torch.zeros(num_groups, features, dtype=torch.float64))  # about the mean

    def update(self, x: Tensor, weight: Tensor, sum_across: SumAcross = alone) -> None:
        """Add rows to the statistics, Chan et al. (1979), equation 2.1.

        Rows of weight 0 may hold any value. A batch that is not finite, or of weight 0, changes nothing.

        Args:
            x: `(*B, A, F)`, or `(*B, F)` without agents.
            weight: `(*B, A)`, or `(*B)`.
            sum_across: adds the sums of other processes.
        """
        num_agents = 1 if self.groups is None else len(self.groups)
        groups = torch.zeros(1, dtype=torch.long, device=x.device) if self.groups is None else self.groups
        weight = weight.double().reshape(-1, num_agents, 1)  # (B, A, 1)
        x = torch.where(weight != 0, x.double().reshape(-1, num_agents, x.shape[-1]), 0.0)  # (B, A, F)
        zeros = torch.zeros_like(self.mean)
        count = sum_across(torch.zeros_like(self.count).index_add(0, groups, weight.sum(0)))
        mean = sum_across(zeros.index_add(0, groups, (weight * x).sum(0))) / count.clamp_min(1e-300)
        square = sum_across(zeros.index_add(0, groups, (weight * (x - mean[groups]).square()).sum(0)))
        total = self.count + count
        shift = mean - self.mean
        fraction = count / total.clamp_min(1e-300)
        is_valid = (count > 0) & (mean.isfinite() & square.isfinite()).all(-1, keepdim=True)
        new_square = self.square + square + shift.square() * self.count * fraction
        self.square.copy_(torch.where(is_valid, new_square, self.square))
        self.mean.copy_(torch.where(is_valid, self.mean + shift * fraction, self.mean))
        self.count.copy_(torch.where(is_valid, total, self.count))

    def mean_scale(self) -> tuple[Tensor, Tensor]:
        """Return mean and inverse standard deviation of each group, float64 `(G, F)`."""
        std = torch.where(self.count > 0, (self.square / self.count.clamp_min(1.0)).sqrt(), 1.0)
        # The inverse 0 maps constant features to 0 in place of dividing by almost 0.
        return self.mean, torch.where(std > 1e-6, 1 / std, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows `(*B, A, F)`, or `(*B, F)` without agents."""
        mean, scale = self.mean_scale()
        if self.groups is not None:
            mean = mean[self.groups]
            scale = scale[self.groups]
        return ((x - mean.to(x.dtype).squeeze(0)) * scale.to(x.dtype).squeeze(0)).clamp(-self.LIMIT, self.LIMIT)

    def select_(self, agent: int) -> None:
        """Keep the statistics of one agent, as views, for rows `(*B, 1, F)`."""
        if self.groups is not None:
            group = slice(int(self.groups[agent]), int(self.groups[agent]) + 1)
            self.groups = None
            self.count = self.count[group]
            self.mean = self.mean[group]
            self.square = self.square[group]

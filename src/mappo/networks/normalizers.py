"""Running statistics, kept as buffers so that a checkpoint carries them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ValueNorm(nn.Module):
    """The critic learns returns of mean 0 and variance 1; the rest of the program sees reward units.

    Exponential moments with the bias of their start divided out, as in the code of arXiv:2103.01955
    (appendix C), except that they move once for each rollout, between the advantages and the targets.

    Args:
        decay: weight of the past at each `update`, in [0, 1).
    """

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        # float64: the variance is a difference of squares, and these are three numbers.
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))  # weight, sum, sum of squares
        self.moments: Tensor

    def update(self, x: Tensor, weight: Tensor) -> None:
        """Takes in returns `(*B)`, weighted `(*B)`; a batch of weight 0, or not finite, changes nothing."""
        x, weight = torch.where(weight != 0, x, 0.0).double(), weight.double()
        total = weight.sum()
        batch = torch.stack([total, (weight * x).sum(), (weight * x * x).sum()]) / total.clamp_min(1e-300)
        takes = (total > 0) & batch.isfinite().all()
        self.moments.copy_(torch.where(takes, self.decay * self.moments + (1 - self.decay) * batch, self.moments))

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float32 scalars; 0 and 1 before the first update."""
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
    """Observations of mean 0 and standard deviation 1 by all that was ever seen, cut off at 10.

    Statistics move once for each rollout, behind its update, so that acting and learning read the same; they stand
    still at evaluation. Before the first update nothing is changed but cut off.

    Args:
        features: F. kinds: the kind of each agent, one set of statistics for each; empty for rows without agents.
    """

    def __init__(self, features: int, groups: Sequence[int] = ()) -> None:
        super().__init__()
        sets = len(set(groups)) or 1
        self.register_buffer("groups", torch.tensor(groups, dtype=torch.long) if sets > 1 else None, persistent=False)
        self.groups: Tensor | None
        self.register_buffer("count", torch.zeros(sets, 1, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(sets, features, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(sets, features, dtype=torch.float64))  # summed, about the mean
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor

    def update(self, x: Tensor, weight: Tensor) -> None:
        """Takes in rows `(*B, A, F)`, or `(*B, F)`, of weight `(*B, A)`, or `(*B)`; Chan et al. (1979), equation 2.1.

        What has weight 0 may hold anything; a batch that is not finite, or of weight 0, changes nothing.
        """
        agents = 1 if self.groups is None else len(self.groups)
        weight = weight.double().reshape(-1, agents, 1)
        x = torch.where(weight != 0, x.double().reshape(-1, agents, x.shape[-1]), 0.0)
        kinds = torch.zeros(1, dtype=torch.long, device=x.device) if self.groups is None else self.groups
        nothing = torch.zeros_like(self.mean)
        count = torch.zeros_like(self.count).index_add(0, kinds, weight.sum(0))
        mean = nothing.index_add(0, kinds, (weight * x).sum(0)) / count.clamp_min(1e-300)
        about = weight * (x - mean[kinds]).square()
        square = nothing.index_add(0, kinds, about.sum(0))
        whole, shift = self.count + count, mean - self.mean
        share = count / whole.clamp_min(1e-300)
        takes = (count > 0) & (mean.isfinite() & square.isfinite()).all(-1, keepdim=True)
        self.square.copy_(torch.where(takes, self.square + square + shift.square() * self.count * share, self.square))
        self.mean.copy_(torch.where(takes, self.mean + shift * share, self.mean))
        self.count.copy_(torch.where(takes, whole, self.count))

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(*B, A, F)`, or `(*B, F)` without agents."""
        known = self.count > 0
        std = torch.where(known, (self.square / self.count.clamp_min(1.0)).sqrt(), 1.0)
        # A feature that never moved stays where it is: 0, whatever its rounding.
        mean, scale = self.mean, torch.where(std > 1e-6, 1 / std, 0.0)
        if self.groups is not None:
            mean, scale = mean[self.groups], scale[self.groups]
        return ((x - mean.to(x.dtype).squeeze(0)) * scale.to(x.dtype).squeeze(0)).clamp(-10, 10)

"""Running statistics, kept as buffers so that a checkpoint carries them."""

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

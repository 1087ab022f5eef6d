"""What the gradient steps of one update read."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, cast

from torch import Tensor


@dataclass
class Batch:
    """One row for each time and environment of a rollout.

    A *team row* of the critic stands for all agents: one value, weighed by how many act.
    """

    obs: Tensor  # (R, A, O)
    mask: Tensor | None  # (R, A, N)
    action: Tensor  # (R, A, D)
    log_prob: Tensor  # (R, A)
    adv: Tensor  # (R, A)
    weight: Tensor  # (R, A): 1 where the agent acted
    critic: Tensor  # (R, S) team rows, or (R, A, S)
    value: Tensor  # (R) or (R, A), normalised
    target: Tensor  # as value, normalised
    value_weight: Tensor  # as value

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """A batch of what `function` makes of each tensor."""
        made = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: cast(Any, x if x is None else function(x)) for name, x in made.items()})

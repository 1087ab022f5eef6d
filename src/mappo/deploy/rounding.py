"""Rounding of a policy in float32. Two right programs of the same policy may differ by as much."""

import copy

import numpy as np
import torch
from torch import Tensor

from mappo.deploy.agent_policy import MEMORY, AgentPolicy
from mappo.deploy.comparison import largest_difference
from mappo.deploy.contract import MAX_TOLERANCE, TOLERANCE
from mappo.deploy.formats import Arrays
from mappo.errors import UserError

# The saved actor and a file round independently, and the rounding of rare inputs is several times that of others.
FACTOR = 10
DRAWS = 4
EPSILON = 2.0**-23  # of float32


@torch.no_grad()
def measure_rounding(policy: AgentPolicy, record: Arrays) -> float:
    """Return the largest difference that rounding makes to a policy's numbers.

    Numbers in float32, and in float64 with parameters changed at random by their rounding, are compared with those in
    float64.

    Args:
        policy: in float32.
        record: inputs by name, each `(n, ...)`.
    """
    inputs = {name: torch.as_tensor(record[name]) for name in policy.example_inputs(1)}
    exact_inputs = {name: x.double() if name == MEMORY else x for name, x in inputs.items()}
    exact_policy = copy.deepcopy(policy).double()
    exact = _numpy(exact_policy(exact_inputs))
    found = [_numpy(policy(inputs))]
    generator = torch.Generator().manual_seed(0)
    for _ in range(DRAWS):
        rounded = copy.deepcopy(exact_policy)
        for p in rounded.parameters():
            p *= 1 + EPSILON * (2 * torch.rand(p.shape, generator=generator, dtype=p.dtype) - 1)
        found.append(_numpy(rounded(exact_inputs)))
    num_choices = len(policy.heads.categorical)
    return max(largest_difference(outputs, exact, num_choices) for outputs in found)


def _numpy(outputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in outputs.items()}


def rounding_tolerance(policy: AgentPolicy, record: Arrays) -> float:
    """Return the largest difference from the record that rounding alone explains, at least `TOLERANCE`.

    Weights that amplify rounding, as LayerNorm does with nearly equal numbers, need more than others.

    Args:
        policy: in float32.
        record: inputs by name, each `(n, ...)`.
    """
    return max(TOLERANCE, float(f"{FACTOR * measure_rounding(policy, record):.1e}"))


def needed_tolerance(policy: AgentPolicy, record: Arrays, agent: str) -> float:
    """Return `rounding_tolerance`.

    Raises:
        UserError: the policy of `agent` amplifies rounding so much that no comparison would prove a file.
    """
    tolerance = rounding_tolerance(policy, record)
    if not tolerance <= MAX_TOLERANCE:
        raise UserError(
            f"{agent} cannot be exported: its network amplifies rounding. Its numbers in float32 may be wrong by "
            f"{tolerance / FACTOR:.1e}, too much to prove a file. Train with smaller weights (ppo.weight_decay), or "
            f"without network.layer_norm"
        )
    return tolerance

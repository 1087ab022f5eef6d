"""Tracing of a policy into a graph of torch operators, for any batch size."""

import warnings
from typing import Any

import torch

from mappo.deploy.agent_policy import AgentPolicy
from mappo.errors import UserError

EXAMPLE_BATCH = 3  # a trace fixes the sizes 0 and 1


def trace(policy: AgentPolicy) -> Any:
    """Return the policy as a `torch.export.ExportedProgram`: a dict of inputs by name to a dict of outputs by name.

    Raises:
        UserError: the encoder is a user's, and reads numbers of a tensor in Python or fixes the size of a batch.
    """
    inputs = policy.example_inputs(EXAMPLE_BATCH)
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(policy, (inputs,), dynamic_shapes=({name: {0: batch} for name in inputs},))
    except Exception as error:
        kind = type(policy.encoder).__name__
        if kind in ("Sequential", "Branches"):
            raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"the encoder {kind} cannot be exported ({reason.strip()[:200]}): its forward may use torch operations "
            f"alone, without .item(), .numpy() or an `if` on a tensor, and must work for any batch size"
        ) from error

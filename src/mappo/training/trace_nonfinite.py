"""Search for the first NaN or infinity of an update. `Diagnostics` asks after a gradient step was skipped."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch
from mappo.core.timestep import Rollout


@torch.inference_mode(False)  # as in the update
def trace_nonfinite(agent: MAPPO, rollout: Rollout) -> str:
    """Recompute an update on the whole rollout; return where its numbers cease to be finite, or "" if nowhere.

    The search goes from front to back: targets, layers in the order of their computation, losses. Then come the
    gradients, from back to front: each infinite gradient spoils the gradients of the layers before.
    """
    batch, _, _ = agent.prepare(rollout, recompute=True)
    for name, x in (("values", batch.value), ("returns", batch.target), ("advantages", batch.adv)):
        if not x.isfinite().all():
            return f"the {name} of the rollout are not all finite"
    total, metrics, layers = _compute_loss(agent, batch)
    if layers:
        return f"the output of layer {layers[0]} is not finite"
    for name in ("policy_loss", "value_loss", "entropy", "total_loss"):
        if not metrics[name].isfinite():
            return f"the {name} is {metrics[name].item()}"
    return _trace_gradients(agent, total)


def _compute_loss(agent: MAPPO, batch: Batch) -> tuple[Tensor, dict[str, Tensor], list[str]]:
    """Return loss, metrics, and the names of layers with NaN or infinity in their outputs."""
    layers: list[str] = []
    modules = cast("dict[str, nn.Module]", dict(cast(Any, agent.network).named_modules()))

    def hook(name: str) -> Any:
        def check(_module: nn.Module, _inputs: Any, output: Any) -> None:
            first: Any = cast(Any, output)[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor) and not first.isfinite().all():
                layers.append(name)

        return check

    handles = [m.register_forward_hook(hook(name)) for name, m in modules.items() if not any(m.children())]
    try:
        total, metrics = agent.loss(batch, agent.outputs(batch))
    finally:
        for handle in handles:
            handle.remove()
    return total, metrics, layers


def _trace_gradients(agent: MAPPO, total: Tensor) -> str:
    """Return the last parameter with an infinite gradient, or with a gradient too large to square."""
    weights: dict[str, Tensor] = {n: p for n, p in agent.network.named_parameters() if p.requires_grad and p.numel()}
    gradients: Any = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    largest = {n: float(g.abs().max()) for n, g in zip(weights, gradients, strict=True) if g is not None}
    infinite = [name for name, x in largest.items() if not math.isfinite(x)]
    if infinite:  # parameters are listed in the order of computation, and gradients flow backwards
        rest = ", nor of those before it" if len(infinite) > 1 else ""
        return f"the gradient of {infinite[-1]} is not finite{rest}"
    name, most = max(largest.items(), key=lambda x: x[1])
    return f"the gradient of {name} goes up to {most:.3g}, and its square overflows" if most > 1e15 else ""

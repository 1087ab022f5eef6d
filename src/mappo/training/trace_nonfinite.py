"""A search for the first number of an update that is not finite."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.algorithms.mappo import MAPPO
from mappo.core.timestep import Rollout


def trace_nonfinite(agent: MAPPO, rollout: Rollout) -> str:
    """Where the numbers of an update cease to be finite, looked for anew, on the whole rollout; "" if nowhere any more.

    From the front: what is learned from, the layers in the order in which they compute, the losses; then the gradients,
    in which each parameter spoils those before it.
    """
    batch, _, _ = agent.prepare(rollout, recompute=True)
    for what, x in (("values", batch.value), ("returns", batch.target), ("advantages", batch.adv)):
        if not x.isfinite().all():
            return f"the {what} of the rollout are not all finite"
    layers: list[str] = []
    modules = cast("dict[str, nn.Module]", dict(cast(Any, agent.network).named_modules()))

    def hook(name: str) -> Any:
        def seen(_module: nn.Module, _given: Any, answer: Any) -> None:
            first: Any = cast(Any, answer)[0] if isinstance(answer, tuple) else answer
            if isinstance(first, Tensor) and not first.isfinite().all():
                layers.append(name)

        return seen

    hooks = [m.register_forward_hook(hook(name)) for name, m in modules.items() if not any(m.children())]
    try:
        total, metrics = agent.loss(batch, agent.config.schedule(agent.updates)["entropy_weight"])
    finally:
        for made in hooks:
            made.remove()
    if layers:
        return f"the layer {layers[0]} answers numbers that are not finite"
    for name in ("policy_loss", "value_loss", "entropy", "total_loss"):
        if not metrics[name].isfinite():
            return f"the {name} is {metrics[name].item()}"
    weights: dict[str, Tensor] = {n: p for n, p in agent.network.named_parameters() if p.requires_grad and p.numel()}
    gradients: Any = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    largest = {n: float(g.abs().max()) for n, g in zip(weights, gradients, strict=True) if g is not None}
    spoilt = [name for name, x in largest.items() if not math.isfinite(x)]
    if spoilt:  # layers stand in the order in which they compute
        return f"the gradient of {spoilt[-1]} is not finite" + (", nor of those before it" if len(spoilt) > 1 else "")
    name, most = max(largest.items(), key=lambda x: x[1])
    return f"the gradient of {name} goes up to {most:.3g}, whose square overflows" if most > 1e15 else ""

"""A loss of your own: a penalty on the KL divergence, in place of PPO's clipping.

`self.config.ppo` holds all settings of the learning algorithm (docs/settings.md). `batch.adv` is standardised already.

Run it with `python examples/custom_loss.py`. From the command line the same, in the folder `examples`:

    mappo train spread --ppo.learner custom_loss:Penalised --run.name penalised
    mappo resume runs/penalised --allow-code
    mappo evaluate runs/penalised
"""

from collections.abc import Mapping

import torch
from torch import Tensor

import mappo

TARGET = 0.01  # the KL divergence that the weight of the penalty aims at


class Penalised(mappo.MAPPO):
    """PPO with an adaptive KL penalty, arXiv:1707.06347, equation 8 and the rule below it."""

    extra_metrics = ("kl_penalty",)
    loss_adds_up = True  # every term is a mean by `batch`, so that several processes can share a minibatch

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.kl_weight = torch.ones((), device=self.device)

    def loss(self, batch, outputs) -> tuple[Tensor, dict[str, Tensor]]:
        _, metrics = super().loss(batch, outputs)  # the usual metrics
        ppo = self.config.ppo
        log_ratio = outputs.log_prob - batch.log_prob
        ratio = log_ratio.exp()
        policy_loss = -batch.mean(ratio * batch.adv)
        kl = batch.mean(ratio - 1 - log_ratio)
        value_loss = 0.5 * batch.value_mean((outputs.value - batch.target).square())
        entropy = batch.mean(outputs.entropy)
        penalty = self.kl_weight * kl
        total = policy_loss + penalty + ppo.value_weight * value_loss - self.entropy_weight * entropy
        return total, metrics | {"policy_loss": policy_loss, "value_loss": value_loss, "kl_penalty": penalty}

    def update(self, rollout, skip=()) -> dict[str, Tensor]:
        metrics = super().update(rollout, skip)
        weight = self.kl_weight.clone()
        kl = metrics["approx_kl"]
        self.kl_weight.mul_(torch.where(kl > 1.5 * TARGET, 2.0, torch.where(kl < TARGET / 1.5, 0.5, 1.0)))
        return metrics | {"kl_weight": weight}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parent's state and the weight of the penalty: a resumed run is the run that went on."""
        return super().state_dict() | {"kl_weight": self.kl_weight}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.kl_weight.copy_(state["kl_weight"])


def main(total_steps: int = 300_000, directory: str | None = None) -> mappo.Run:
    """Train spread with this loss."""
    run = mappo.train("spread", {"run.total_steps": total_steps, "run.dir": directory}, learner=Penalised)
    print(run.path, run.config.ppo.learner, f"KL {run.metrics['approx_kl'][-1]:.4f}")
    return run


if __name__ == "__main__":
    main()

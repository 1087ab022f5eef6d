"""A network of your own: one function that makes an encoder. Memory, groups, heads and saved actors come with it.

Run it with `python examples/custom_network.py`.
"""

import torch
from torch import Tensor, nn

import mappo
from mappo.networks.layers import GAIN, Linear


class Residual(nn.Module):
    """Two layers with a way around the second: rows `(*B, F)`, or `(G, *B, F)` for G sets of parameters."""

    def __init__(self, groups: int, features: int, width: int) -> None:
        super().__init__()
        self.first = Linear(groups, features, width, GAIN["relu"])
        self.second = Linear(groups, width, width, GAIN["relu"])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return x + torch.relu(self.second(x))


@mappo.register_encoder("residual")
def make_residual(groups: int, shape: tuple[int, ...], net: mappo.NetworkConfig) -> nn.Module:
    """Return an encoder with the number of outputs of the last hidden layer."""
    return Residual(groups, shape[-1], net.hidden[-1])


def main(total_steps: int = 200_000, directory: str | None = None) -> mappo.Run:
    """Train spread with this encoder, in the actor and in the critic."""
    config = mappo.Config.from_dict(
        {"network": {"encoder": "residual"}, "run": {"total_steps": total_steps, "dir": directory}},
        mappo.preset("spread"),
    )
    run = mappo.train("spread", config)
    actor = mappo.load_actor(run.path)  # needs this module imported, which registers the encoder
    action, _ = actor.agent("agent_0")(torch.zeros(18))
    print(f"{run.path}: agent_0 would play {action.item()}")
    return run


if __name__ == "__main__":
    main()

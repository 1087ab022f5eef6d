"""Attention over entities in the actor, over agents in the critic: the same weights serve any number of both.

Run it with `python examples/attention_critic.py`. From the command line the same, in the folder `examples`:

    mappo train spread --network.encoder attention_critic:make_encoder --run.name three
    mappo train spread --network.encoder attention_critic:make_encoder --env.num-agents 5 --run.init-from runs/three
"""

import torch
from torch import Tensor, nn

import mappo
from mappo.networks.layers import GAIN, Linear


class Attention(nn.Module):
    """Adds to each token what it reads from all tokens, by four heads (arXiv:1706.03762): `(*B, n, F)` to the same."""

    def __init__(self, groups: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.read = Linear(groups, width, 3 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.read(tokens).unflatten(-1, (3, self.heads, -1)).transpose(-2, -4).unbind(-3)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # (*B, heads, n, n)
        return tokens + (scores.softmax(-1) @ value).transpose(-2, -3).flatten(-2)


class Entities(nn.Module):
    """Features of an agent's observation in spread, `(*B, 6 N)` to `(*B, F)`, from a token for each entity.

    The observation holds the agent's velocity and place, the ways to N landmarks, to N - 1 other agents, and silence.
    """

    def __init__(self, groups: int, num_agents: int, width: int) -> None:
        super().__init__()
        self.num_agents = num_agents
        self.itself = Linear(groups, 4, width, GAIN["relu"])
        self.entity = Linear(groups, 3, width, GAIN["relu"])  # the way to an entity, and 1 for agents
        self.attention = Attention(groups, width)
        self.join = Linear(groups, 2 * width, width, GAIN["relu"])

    def forward(self, x: Tensor) -> Tensor:
        count = 2 * self.num_agents - 1
        ways = x[..., 4 : 4 + 2 * count].unflatten(-1, (count, 2))
        is_agent = (torch.arange(count, device=x.device) >= self.num_agents).to(x.dtype).unsqueeze(-1)
        entities = self.entity(torch.cat([ways, is_agent.expand(*ways.shape[:-1], 1)], -1))
        tokens = torch.relu(torch.cat([self.itself(x[..., :4]).unsqueeze(-2), entities], -2))
        tokens = self.attention(tokens)
        return torch.relu(self.join(torch.cat([tokens[..., 0, :], tokens.amax(-2)], -1)))


class Team(nn.Module):
    """Features of all observations side by side, `(*B, N * 6 N)` to `(*B, F)`, from a token for each agent."""

    def __init__(self, groups: int, num_agents: int, width: int) -> None:
        super().__init__()
        self.num_agents = num_agents
        self.entities = Entities(groups, num_agents, width)
        self.attention = Attention(groups, width)
        self.join = Linear(groups, width, width, GAIN["relu"])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.attention(self.entities(x.unflatten(-1, (self.num_agents, -1))))
        return torch.relu(self.join(tokens.mean(-2)))


def make_encoder(
    groups: int, shape: tuple[int, ...], net: mappo.NetworkConfig, role: str, spec: mappo.Spec
) -> nn.Module:
    """Return the actor's or the critic's encoder, with the number of outputs of the last hidden layer."""
    count = spec.num_agents
    size = 6 * count if role == "actor" else 6 * count * count
    if shape != (size,):
        raise mappo.UserError(f"this encoder reads spread's observations, {size} numbers for the {role}, not {shape}")
    return (Entities if role == "actor" else Team)(groups, count, net.hidden[-1])


def main(total_steps: int = 300_000, directory: str | None = None) -> mappo.Run:
    """Train spread with attention in actor and critic."""
    settings = {
        "network.encoder": "attention_critic:make_encoder",
        "run.total_steps": total_steps,
        "run.dir": directory,
    }
    run = mappo.train("spread", settings)
    print(run.path, run.metrics["eval_return"][-1])
    return run


if __name__ == "__main__":
    main()

"""Teams of every kind of agent, with random weights: what a saved actor and an exported file must answer alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.config import NetworkConfig
from mappo.core.spec import Spec
from mappo.deploy.record import float32_policy, respond
from mappo.networks.actor_critic import build_actor
from mappo.networks.input_reader import flatten_inputs
from mappo.policies.actor import Actor
from mappo.policies.policy import Policy

# Where an exported policy comes from, for its contract.
ORIGIN = {"env": "custom/Sampler", "run": "x", "checkpoint": "last", "step": 10, "precision": "float32"}


def box(*shape: int, low: float = -np.inf, high: float = np.inf) -> spaces.Box:
    return spaces.Box(low, high, shape, np.float32)


def camera(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


class Sampler:
    """A PettingZoo game of random observations of given spaces; agents die, come back and have masks.

    An action outside its space is an error. With a horizon above the usual one nobody dies.
    """

    def __init__(self, kinds: Mapping[str, tuple[Any, Any]], masks: bool, horizon: int = 11) -> None:
        self.kinds = kinds
        self.horizon = horizon
        self.possible_agents = list(kinds)
        self.masks = masks

    def observation_space(self, agent: str) -> Any:
        return self.kinds[agent][0]

    def action_space(self, agent: str) -> Any:
        return self.kinds[agent][1]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.rng = np.random.default_rng(seed)
        self.clock = 0
        self.agents = list(self.possible_agents)
        for k, pair in enumerate(self.kinds.values()):
            pair[0].seed(None if seed is None else seed + k)
        return self._look(self.agents)

    def step(self, actions: dict[str, Any]) -> Any:
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), (agent, action)
        self.clock += 1
        acted = list(actions)
        dead = {a: a != self.possible_agents[0] and self.rng.random() < 0.1 * (self.horizon == 11) for a in acted}
        returning = [a for a in self.possible_agents if a not in acted and self.rng.random() < 0.5]
        is_over = self.clock == self.horizon
        seen, infos = self._look([*acted, *returning])
        self.agents = [] if is_over else [a for a in self.possible_agents if a in returning or not dead.get(a, True)]
        rewards = dict.fromkeys(seen, 1.0)
        return seen, rewards, {a: dead.get(a, False) for a in seen}, dict.fromkeys(seen, is_over), infos

    def _look(self, agents: list[str]) -> Any:
        seen = {}
        infos = {}
        for agent in agents:
            x = self.observation_space(agent).sample()
            seen[agent] = x
            infos[agent] = {"action_mask": self._mask(agent)} if self.masks else {}
        return seen, infos

    def _mask(self, agent: str) -> np.ndarray:
        space = self.action_space(agent)
        sizes = (
            [space.n] if isinstance(space, spaces.Discrete) else [2] * space.n if hasattr(space, "n") else space.nvec
        )
        return np.concatenate([np.roll([1, *self.rng.integers(0, 2, n - 1)], self.rng.integers(n)) for n in sizes])

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Team:
    """Spaces of each agent, and settings of the network."""

    kinds: dict[str, tuple[Any, Any]]
    network: dict[str, Any] = field(default_factory=dict)
    masks: bool = False

    def make(self, horizon: int = 11) -> Sampler:
        return Sampler(self.kinds, self.masks, horizon)


DISCRETE = spaces.Discrete(5, start=3)
TANH = {"action_bounds": "tanh"}
PLAIN = {"a": (box(6), DISCRETE), "b": (box(6), DISCRETE)}
ROBOT = spaces.Dict(
    view=camera(9, 8, 3),
    depth=camera(9, 8),
    place=box(3),
    kind=spaces.Discrete(3, start=1),
    more=spaces.Tuple([spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3]), box(1, 2)]),
)
UNEQUAL = {
    "walker": (box(4), box(2, low=-2, high=3)),
    "talker": (box(7), spaces.Discrete(6, start=-2)),
    "player": (box(2, 3), spaces.MultiDiscrete([3, 2, 4], start=[1, 0, -1])),
    "switch": (spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(3)),
}
MEMORY = {"memory_size": 7, "sharing": "none"}
TEAMS = {
    "discrete": Team(PLAIN),
    "discrete-id": Team(PLAIN, {"agent_id": True, "activation": "tanh"}),
    "discrete-masks": Team(PLAIN, {"sharing": "none", "obs_norm": True}, masks=True),
    "multidiscrete": Team({"a": (box(5), spaces.MultiDiscrete([3, 4])), "b": (box(5), spaces.MultiDiscrete([3, 4]))}),
    "multibinary-masks": Team({"a": (box(5), spaces.MultiBinary(4)), "b": (box(2), spaces.MultiBinary(2))}, masks=True),
    "box-clip": Team({a: (box(5), box(2, 2, low=-3, high=1)) for a in "ab"}, {"action_std": "state"}),
    "box-unbounded": Team({a: (box(5), box(3)) for a in "ab"}, {"layer_norm": True}),
    "box-tanh": Team({a: (box(5), box(3, low=-1, high=2)) for a in "ab"}, {"sharing": "none"} | TANH),
    "unequal": Team(UNEQUAL, {"obs_norm": True}),
    "unequal-all": Team(UNEQUAL, {"sharing": "all", "obs_norm": True}),
    "unequal-all-norm": Team(UNEQUAL, {"sharing": "all", "layer_norm": True}),
    "unequal-none-state": Team(UNEQUAL, {"sharing": "none", "action_std": "state"}),
    "unequal-gru": Team(UNEQUAL, {"layer_norm": True, "obs_norm": True} | MEMORY),
    "gru-masks": Team(PLAIN, {"memory_size": 6, "sharing": "all", "agent_id": True}, masks=True),
    "images": Team({a: (camera(8, 9, 3), DISCRETE) for a in "ab"}, {"sharing": "none"}),
    "images-first-id": Team(
        {a: (camera(3, 11, 9), DISCRETE) for a in "ab"}, {"agent_id": True} | MEMORY | {"sharing": "group"}
    ),
    "images-large": Team({a: (camera(40, 36, 1), box(2, low=-1, high=1)) for a in "ab"}, {"layer_norm": True}),
    "camera-and-sensor": Team({"robot": (camera(3, 9, 8), DISCRETE), "sensor": (box(4), DISCRETE)}, {"obs_norm": True}),
    "dict": Team({"robot": (ROBOT, DISCRETE), "sensor": (box(4), DISCRETE)}, {"obs_norm": True}, masks=True),
    "dict-gru": Team(
        {a: (ROBOT, box(2, low=-1, high=1)) for a in "ab"}, {"layer_norm": True, "agent_id": True} | MEMORY
    ),
    "bytes": Team({a: (camera(12), DISCRETE) for a in "ab"}, {"sharing": "all", "agent_id": True}),
    "bf16": Team(PLAIN, {"precision": "bf16"}),
}


def random_actor(spec: Spec, seed: int = 0, **network: Any) -> Actor:
    """An actor with random weights and statistics; logits are large enough to tell policies apart."""
    config = NetworkConfig(**{"hidden": (16, 12), "actor_gain": 1.0} | network)
    generator = torch.Generator().manual_seed(seed)
    actor = build_actor(spec, config, generator)
    # The LayerNorm of a memory of near equal numbers enlarges rounding without a bound: those weights stay smaller.
    scale = 0.1 if config.memory_size and config.layer_norm else 0.3
    with torch.no_grad():
        for name, p in actor.named_parameters():
            if name.endswith("bias") or "norm" in name:
                p.add_(scale * torch.randn(p.shape, generator=generator))
        if actor.norm is not None:
            rows = torch.randn(50, spec.num_agents, *spec.obs_shape, generator=generator) * 2 + 1
            actor.norm.update(rows, torch.ones(50, spec.num_agents))
    return Actor(Policy(spec, config, actor.requires_grad_(False)))


def own_inputs(policy: Any, rows: int, seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    """Random inputs of an agent's file."""
    generator = torch.Generator().manual_seed(seed)
    inputs = policy.example_inputs(rows)
    for array in policy.reader.inputs:
        x = inputs[array.name]
        if array.choices:
            spans = torch.tensor(array.choices) * torch.rand(rows, len(array.choices), generator=generator)
            inputs[array.name] = (spans.long() + torch.tensor(array.start)).reshape(x.shape)
        elif x.dtype == torch.uint8:
            inputs[array.name] = torch.randint(0, 256, x.shape, generator=generator).byte()
        else:
            inputs[array.name] = scale * torch.randn(x.shape, generator=generator)
    for name in ("mask", "is_first"):
        if name in inputs:
            inputs[name] = torch.rand(inputs[name].shape, generator=generator) < 0.6
    if "memory" in inputs:
        inputs["memory"] = torch.randn(inputs["memory"].shape, generator=generator)
    inputs["noise"] = torch.rand(inputs["noise"].shape, generator=generator)
    return inputs


def extreme_inputs(policy: Any, seed: int) -> dict[str, Tensor]:
    """Inputs of an agent's file: numbers of size 1e-4 and 1e4, zeros, and both bounds of its space or of bytes."""
    inputs = own_inputs(policy, 200, seed)
    generator = torch.Generator().manual_seed(seed)
    for array in policy.reader.inputs:
        x = inputs[array.name]
        if array.choices:
            continue
        low, high = (
            torch.tensor(bound or [0.0]).nan_to_num(posinf=1e4, neginf=-1e4) for bound in (array.low, array.high)
        )
        low, high = (y.reshape(array.shape if y.numel() > 1 else ()).to(x.dtype) for y in (low, high))
        x[:50] = torch.where(torch.rand(x[:50].shape, generator=generator) < 0.5, low, high)
        x[50:100] = torch.where(torch.rand(50, *[1] * (x.ndim - 1), generator=generator) < 0.5, low, high)
        x[100] = 0
        if x.dtype != torch.uint8:
            x[101:150] *= 1e4
            x[150:] *= 1e-4
    return inputs


def saved_answers(actor: Actor, index: int, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Inputs and answers of the saved actor, by the names of a file."""
    policy = float32_policy(actor.policy.for_agent(index))
    spec = actor.policy.spec
    arrays = spec.obs_inputs[index]
    rows = len(inputs["noise"])
    padded = torch.zeros(rows, 1, *spec.obs_shape, dtype=spec.obs_dtype)
    if len(spec.obs_shape) == 3:
        padded[:, 0] = spec.to_channels_last(inputs["obs"])
    else:
        padded[:, 0, : spec.obs_size(index)] = flatten_inputs(arrays, [inputs[x.name] for x in arrays])
    mask = spec.static_mask_tensor[index].expand(rows, 1, -1).clone()
    if "mask" in inputs:
        mask[:, 0, spec.choice_indices(index)] = inputs["mask"]
    noise = torch.full((rows, 1, spec.action_size), 0.5)
    noise[:, 0, spec.action_columns(index)] = inputs["noise"]
    memory = inputs.get("memory", torch.zeros(rows, 0)).unsqueeze(1)
    is_first = inputs.get("is_first", torch.ones(rows, dtype=torch.bool)).unsqueeze(1)
    record, *_ = respond(policy, index, padded, mask, memory, is_first, noise)
    return {name: x.numpy() for name, x in record.items()}

"""Encoders, from an observation to features: `mlp` for vectors, `cnn` for images, and encoders of the user's own."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.config.config import is_code
from mappo.core.observations import ObsPart
from mappo.core.spec import Spec
from mappo.core.user_code import load_code, parameters
from mappo.errors import UserError
from mappo.networks.cnn import CNN, PartsEncoder, PartsEncoders
from mappo.networks.mlp import MLP
from mappo.system.tracebacks import describe_error

Role = Literal["actor", "critic"]
# (groups, shape of one input, settings) -> a module with `groups` sets of parameters. The module maps (*B, *shape), or
# (G, *B, *shape) with several sets, to as many features as the last hidden layer has; see `layers.Linear`.
# A maker with a parameter named `role` or `spec` also gets the role of the network, and the environment's `Spec`.
EncoderMaker = Callable[..., nn.Module]


class OneGroup(nn.Module):
    """A single group of a user's encoder: computes all groups and selects the group."""

    def __init__(self, encoder: nn.Module, num_groups: int, group: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_groups = num_groups
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x.expand(self.num_groups, *x.shape))[self.group]


def select_encoder(encoder: nn.Module, num_groups: int, group: int) -> nn.Module:
    """Return a single group of an encoder, for inputs `(*B, *shape)`; one with `select_` is changed in place."""
    if isinstance(encoder, PartsEncoders):
        return encoder.sets[group]
    select: Callable[[int], None] | None = getattr(encoder, "select_", None)
    if select is None:
        return OneGroup(encoder, num_groups, group)
    select(group)
    return encoder


def _make_mlp(
    groups: int, shape: tuple[int, ...], network_config: NetworkConfig, generator: torch.Generator | None
) -> nn.Module:
    if len(shape) != 1:
        raise UserError(f"network.encoder mlp reads vectors, not inputs of shape {shape}: use cnn or auto")
    return MLP(shape[0], network_config.hidden, network_config.activation, network_config.layer_norm, groups, generator)


def _make_cnn(
    groups: int, shape: tuple[int, ...], network_config: NetworkConfig, generator: torch.Generator | None
) -> nn.Module:
    if len(shape) != 3:
        return _make_mlp(groups, shape, network_config, generator)  # a critic may read vectors where actors see images
    return CNN(shape, network_config, groups, generator)


BUILT_IN = {"mlp": _make_mlp, "cnn": _make_cnn}
ENCODERS: dict[str, Callable[..., nn.Module]] = dict(BUILT_IN)
_global_stream = threading.Lock()


def register_encoder(name: str) -> Callable[[EncoderMaker], EncoderMaker]:
    """Register an encoder under a name for `network.encoder`; see docs/extending.md.

    A maker in a module needs no registration: `network.encoder module:function` names it, and the command line finds
    it again. The maker is called as `make(groups, shape, network_config)`, once for the actor and once for the critic.
    If it has such parameters, it also gets `role` ("actor" or "critic") and `spec` (the environment's `Spec`).

    Args:
        name: a name without a colon.

    Raises:
        UserError: the name belongs to a built-in encoder, or is not a string.
    """
    if not isinstance(name, str) or name in ("auto", *BUILT_IN) or is_code(name):  # pyright: ignore
        raise UserError(f"@mappo.register_encoder(NAME) needs a name of its own, got {name!r}")

    def register(maker: EncoderMaker) -> EncoderMaker:
        ENCODERS[name] = maker
        return maker

    return register


def make_encoder(
    groups: int,
    shape: tuple[int, ...],
    network_config: NetworkConfig,
    generator: torch.Generator | None = None,
    parts: Sequence[Sequence[ObsPart]] = (),
    role: Role = "actor",
    spec: Spec | None = None,
) -> nn.Module:
    """Build the encoder named by the settings; `auto` is `cnn` for images, else `mlp`.

    Args:
        groups: the number of parameter sets.
        shape: shape of an input.
        network_config: the settings.
        generator: of the initial weights; by default torch's own.
        parts: the parts of a flat input with images, for each set; then the name is not read.
        role: of the network, for a user's encoder.
        spec: the environment's, for a user's encoder.

    Raises:
        UserError: no encoder has this name, or the encoder does not read this shape.
    """
    name = network_config.encoder
    if parts:
        encoders = [PartsEncoder(set_parts, network_config, generator) for set_parts in parts]
        return encoders[0] if groups == 1 else PartsEncoders(encoders)
    if name == "auto":
        name = "cnn" if len(shape) == 3 else "mlp"
    if name in BUILT_IN:
        return BUILT_IN[name](groups, shape, network_config, generator)
    with _drawn_from(generator):
        return _make_own_encoder(groups, shape, network_config, role, spec)


def _make_own_encoder(
    groups: int, shape: tuple[int, ...], network_config: NetworkConfig, role: Role, spec: Spec | None
) -> nn.Module:
    """Build and check an encoder of the user."""
    name = network_config.encoder
    maker = find_encoder(name)
    offered: dict[str, Any] = {"role": role, "spec": spec}
    wanted = {key: value for key, value in offered.items() if key in parameters(maker)}
    try:
        encoder = maker(groups, shape, network_config, **wanted)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"network.encoder {name} failed for the {role}: {describe_error(error)}") from error
    rows = (2,) if groups == 1 else (groups, 2)
    _check_encoder(f"{name} of the {role}", encoder, rows, shape, network_config.hidden[-1])
    return encoder


def find_encoder(name: str) -> Callable[..., nn.Module]:
    """Return the maker of an encoder, registered or named by `module:function`; `auto` is the maker of `mlp`.

    Raises:
        UserError: no encoder has this name, or the module cannot be imported.
    """
    if is_code(name):
        return load_code(name, "a function that makes an encoder", "make_encoder")
    if name != "auto" and name not in ENCODERS:
        raise UserError(
            f"network.encoder {name!r} is not known; there are: auto, {', '.join(ENCODERS)}. An encoder of your own "
            f"is named by module:function, or must be registered first: import the module with the call of "
            f"mappo.register_encoder"
        )
    return ENCODERS["mlp" if name == "auto" else name]


@contextmanager
def _drawn_from(generator: torch.Generator | None) -> Generator[None]:
    """Let torch's own random numbers come from a generator: the encoders of users know no other stream."""
    if generator is None:
        yield
        return
    with _global_stream:
        state = torch.get_rng_state()
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())
            torch.set_rng_state(state)


@torch.no_grad()
def _check_encoder(name: str, encoder: nn.Module, rows: tuple[int, ...], shape: tuple[int, ...], width: int) -> None:
    """Raise UserError where a user's encoder does not return `(*rows, width)` for zeros `(*rows, *shape)`."""
    zeros = torch.zeros(*rows, *shape, dtype=torch.get_default_dtype())
    message = f"network.encoder {name} was given {tuple(zeros.shape)} and should return {(*rows, width)}"
    try:
        output: object = encoder(zeros)
    except Exception as error:
        raise UserError(f"{message}; it failed: {describe_error(error)}") from error
    if not isinstance(output, Tensor) or output.shape != (*rows, width):
        result = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{message}, not {result}")

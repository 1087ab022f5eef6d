"""Layers and optimiser of `jax_mappo.py`, as functions of nested dicts of arrays."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Params = Any  # nested dicts of arrays
Moments = tuple[Params, Params, Array]  # Adam's averages of gradients and of their squares, and the number of steps


def make_network(key: Array, sizes: tuple[int, ...], last_gain: float, full: bool) -> list[Params]:
    """Return the layers of an MLP: orthogonal weights, and in the full recipe a LayerNorm before each layer."""
    layers: list[Params] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        key, used = jax.random.split(key)
        gain = last_gain if i == len(sizes) - 2 else 5 / 3 if full else 2**0.5
        layer = {"w": jax.nn.initializers.orthogonal(gain)(used, (inputs, outputs)), "b": jnp.zeros(outputs)}
        if full:
            layer |= {"scale": jnp.ones(inputs), "shift": jnp.zeros(inputs)}
        layers.append(layer)
    return layers


def standardize(x: Array) -> Array:
    """Return LayerNorm without its parameters."""
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-5)


def forward(layers: list[Params], x: Array, full: bool) -> Array:
    """Return the output of a network; in the full recipe its input is standardised already."""
    for i, layer in enumerate(layers):
        if i:
            x = standardize(jnp.tanh(x)) if full else jax.nn.relu(x)
        if full:
            # A LayerNorm's parameters belong to the next product: folded into its weights, they cost nothing by row.
            x = x @ (layer["scale"][:, None] * layer["w"]) + (layer["shift"] @ layer["w"] + layer["b"])
        else:
            x = x @ layer["w"] + layer["b"]
    return x


def adam(params: Params, grads: Params, state: Moments, ppo: Any) -> tuple[Params, Moments]:
    """Return the parameters after a step of Adam with clipped gradients, actor and critic each by its own norm."""

    def clip(tree: Params) -> Params:
        norm = jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree)))
        return jax.tree.map(lambda x: x * jnp.minimum(1.0, ppo["max_grad_norm"] / (norm + 1e-6)), tree)

    grads = {name: clip(tree) for name, tree in grads.items()}
    first, second, count = state
    count = count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
    rate, root = ppo["actor_lr"] / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + ppo["adam_eps"]), params, first, second)
    return params, (first, second, count)

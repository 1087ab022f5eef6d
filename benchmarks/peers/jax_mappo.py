"""MAPPO on simple_spread in JAX: rollout and all gradient steps of an update are one compiled function.

Two ways to write it:
    team rows   one critic row for a team, rows in their order: the least work for the task
    agent rows  a critic row for each agent, rows shuffled in each epoch: as JaxMARL writes it

Called by `run.py` with JSON as its argument: the settings of mappo's Config, and `agent_rows`.
"""

import json
import os
import sys
from functools import partial
from typing import Any, NamedTuple

from protocol import Turns

# One thread, and no spinning of a second one. XLA reads the variable when it is first used.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import jax_spread as spread
from jax import Array
from jax_networks import Moments, Params, adam, forward, make_network, standardize


class Settings(NamedTuple):
    """The part of mappo's Config read here."""

    envs: int
    steps: int
    hidden: tuple[int, ...]
    full: bool
    agent_rows: bool
    ppo: Any  # see `mappo.config.PPOConfig`


class Learner(NamedTuple):
    """The state between updates."""

    params: Params
    adam: Moments
    moments: Array
    state: spread.State
    key: Array


class Rows(NamedTuple):
    """A rollout: the actor's rows and the critic's, `(R, ...)`."""

    obs: Array
    action: Array
    log_prob: Array
    advantage: Array
    state: Array
    value: Array
    target: Array


def loss(params: Params, rows: Rows, settings: Settings) -> tuple[Array, Array]:
    """Return the loss of PPO, and its metrics."""
    ppo = settings.ppo
    log_probs = jax.nn.log_softmax(forward(params["actor"], rows.obs, settings.full))
    chosen = jnp.where(jnp.arange(spread.ACTIONS) == rows.action[:, None], log_probs, 0).sum(-1)
    log_ratio = chosen - rows.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = ratio.clip(1 - ppo["clip_ratio"], 1 + ppo["clip_ratio"])
    policy_loss = -jnp.minimum(ratio * rows.advantage, clipped * rows.advantage).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    value = forward(params["critic"], rows.state, settings.full)[:, 0]
    if settings.full:
        near = rows.value + (value - rows.value).clip(-ppo["value_clip"], ppo["value_clip"])
        huber = partial(_huber, delta=ppo["huber_delta"])
        value_loss = jnp.maximum(huber(value - rows.target), huber(near - rows.target)).mean()
    else:
        value_loss = 0.5 * jnp.square(value - rows.target).mean()
    metrics = jnp.stack([policy_loss, value_loss, entropy, (ratio - 1 - log_ratio).mean(), (ratio != clipped).mean()])
    return policy_loss - ppo["entropy_weight"] * entropy + value_loss, metrics


def _huber(x: Array, delta: float) -> Array:
    size = jnp.abs(x)
    return jnp.where(size < delta, 0.5 * x * x, delta * (size - 0.5 * delta))


def team_input(obs: Array, settings: Settings) -> Array:
    """Return the critic's rows `(E, 1 or N, N O)` of observations `(E, N, O)`."""
    joint = obs.reshape(settings.envs, 1, -1)
    return jnp.repeat(joint, spread.AGENTS, 1) if settings.agent_rows else joint


def collect(learner: Learner, settings: Settings) -> tuple[Learner, Rows, Array]:
    """Return the rows of a rollout, an episode of each environment, and the mean return."""
    params, full = learner.params, settings.full
    ready = standardize if full else lambda x: x
    key, start, noise = jax.random.split(learner.key, 3)
    uniform = jax.random.uniform(noise, (settings.steps, settings.envs, spread.AGENTS))

    def act(state: spread.State, noise: Array) -> tuple[spread.State, Any]:
        obs = spread.observe(state)
        log_probs = jax.nn.log_softmax(forward(params["actor"], ready(obs), full))
        below = jnp.cumsum(jnp.exp(log_probs), -1)[..., :-1] < noise[..., None]
        action = below.sum(-1)  # inverse of the cumulative distribution
        log_prob = jnp.where(jnp.arange(spread.ACTIONS) == action[..., None], log_probs, 0).sum(-1)
        state, reward = spread.step(state, action.T)
        return state, (obs, action, log_prob, reward.sum(0))

    last, (obs, action, log_prob, reward) = jax.lax.scan(act, learner.state, uniform)
    episode_return = reward.sum(0).mean()
    ends = team_input(spread.observe(last), settings)
    states = jnp.concatenate([jax.vmap(partial(team_input, settings=settings))(obs), ends[None]])  # (T + 1, E, ., S)
    value = forward(params["critic"], ready(states), full)[..., 0]  # (T + 1, E, .)
    advantage, target, value, moments = estimate(value, reward[..., None], learner.moments, settings)
    centred = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    spread_over_team = jnp.broadcast_to(centred, (*centred.shape[:2], spread.AGENTS))
    flat = [x.reshape(-1, *x.shape[3:]) for x in (ready(obs), action, log_prob, spread_over_team)]
    flat += [x.reshape(-1, *x.shape[3:]) for x in (ready(states[:-1]), value, target)]
    state = spread.reset(start, settings.envs)
    return learner._replace(key=key, state=state, moments=moments), Rows(*flat), episode_return


def estimate(value: Array, reward: Array, moments: Array, settings: Settings) -> tuple[Array, Array, Array, Array]:
    """Return advantages, targets, old values without the last, and statistics of the returns."""
    ppo = settings.ppo
    mean, std = _mean_std(moments)
    real = value * std + mean if settings.full else value

    def back(advantage: Array, now: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, value, after = now
        advantage = reward + ppo["gamma"] * after - value + ppo["gamma"] * ppo["gae_lambda"] * advantage
        return advantage, advantage

    reward = jnp.broadcast_to(reward, real[:-1].shape)
    _, advantage = jax.lax.scan(back, jnp.zeros_like(real[0]), (reward, real[:-1], real[1:]), reverse=True)
    target = advantage + real[:-1]
    if settings.full:
        decay = ppo["value_norm_decay"]
        batch = jnp.stack([jnp.ones(()), target.mean(), jnp.square(target).mean()])
        moments = decay * moments + (1 - decay) * batch
        mean, std = _mean_std(moments)
        target = (target - mean) / std
    return advantage, target, value[:-1], moments


def _mean_std(moments: Array) -> tuple[Array, Array]:
    weight = jnp.maximum(moments[0], 1e-30)
    mean = moments[1] / weight
    std = jnp.sqrt(jnp.maximum(moments[2] / weight - mean**2, 1e-4))
    return mean, jnp.where(moments[0] > 0, std, 1.0)


def update(learner: Learner, settings: Settings) -> tuple[Learner, Array]:
    """Run a rollout and its gradient steps; return the mean return and the mean metrics in one array."""
    learner, rows, episode_return = collect(learner, settings)

    def epoch(carry: tuple[Params, Moments], key: Array) -> tuple[tuple[Params, Moments], Array]:
        params, moments = carry
        batch = rows
        if settings.agent_rows:
            order = jax.random.permutation(key, len(rows.obs))
            batch = jax.tree.map(lambda x: jnp.take(x, order, axis=0), rows)
        (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, settings)
        return adam(params, grads, moments, settings.ppo), metrics

    key, used = jax.random.split(learner.key)
    keys = jax.random.split(used, settings.ppo["epochs"])
    (params, moments), metrics = jax.lax.scan(epoch, (learner.params, learner.adam), keys)
    learner = learner._replace(params=params, adam=moments, key=key)
    return learner, jnp.concatenate([episode_return[None], metrics.mean(0)])


def start(seed: int, settings: Settings) -> Learner:
    """Return the state before the first update."""
    actor, critic, state, key = jax.random.split(jax.random.key(seed), 4)
    obs, hidden, full = spread.OBS, settings.hidden, settings.full
    params = {
        "actor": make_network(actor, (obs, *hidden, spread.ACTIONS), 0.01, full),
        "critic": make_network(critic, (spread.AGENTS * obs, *hidden, 1), 1.0, full),
    }
    first, second = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    adam_state = (first, second, jnp.zeros(()))
    return Learner(params, adam_state, jnp.zeros(3), spread.reset(state, settings.envs), key)


def main() -> None:
    """Train as `run.py` requests it."""
    given = json.loads(sys.argv[1])
    turns = Turns(given["burn_in"], ("jax", "jaxlib"))
    config = given["config"]
    full = config["network"]["layer_norm"]
    sizes = (config["env"]["num_envs"], config["ppo"]["rollout_length"], tuple(config["network"]["hidden"]))
    settings = Settings(*sizes, full, given["agent_rows"], config["ppo"])
    learner = start(given["seed"], settings)
    compiled = jax.jit(partial(update, settings=settings), donate_argnums=0).lower(learner).compile()

    def once() -> float:
        nonlocal learner
        learner, metrics = compiled(learner)
        return float(metrics[0])  # waits for the update

    turns.serve(once)


if __name__ == "__main__":
    main()

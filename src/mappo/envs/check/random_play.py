"""Plays episodes at random, and holds all that comes against the rules. Loads no torch."""

import copy
from typing import Any

import numpy as np
from gymnasium import spaces

from mappo.core.spec import ActionHeads
from mappo.envs.check.determinism import Trace, digest, digests
from mappo.envs.check.recorder import Recorder
from mappo.envs.check.rules import Finding, check_absent_rewards, check_names, check_step, reward_number
from mappo.envs.check.spaces import check_mask, check_observation, find_mask, leaves
from mappo.envs.vector.team_layout import order_of

_REPLAYED = 100  # steps kept, to be played again


class RandomPlayer:
    """Chance plays all agents of one environment.

    Args:
        observes, acts: spaces by agent, in the order of `possible_agents`.
        has_state: `state()` is called.
    """

    def __init__(
        self, notes: Recorder, env: Any, observes: dict[str, Any], acts: dict[str, Any], has_state: bool, seed: int
    ) -> None:
        self.notes, self.env, self.observes, self.acts, self.has_state = notes, env, observes, acts, has_state
        self.possible, self.heads = list(observes), {a: ActionHeads.from_space(space) for a, space in acts.items()}
        self.rng, self.trace = np.random.default_rng(seed), Trace(seed)
        self.episode_stats: list[
            tuple[int, bool, bool]
        ] = []  # of each episode: its steps, and whether observations and states changed
        self.state_shape: tuple[int, ...] | None = getattr(getattr(env, "state_space", None), "shape", None)
        self.masks: dict[str, np.ndarray] = {}
        self._masked: dict[str, bool] = {}
        self._held: list[tuple[str, np.ndarray, np.ndarray]] = []  # what was given, and a copy as it was then

    def play(self, seed: int, max_steps: int) -> None:
        """One episode."""
        notes, report, env = self.notes, self.notes.report, self.env
        first, notes.step, ended, cut = notes.episode == 1, 0, False, False
        obs, infos = notes.reset(env, seed)
        self._check_unchanged()
        alive = self._check_observations(obs, infos)
        if first:
            self.trace.start = digests(obs)
        seen, states = {a: {x} for a, x in digests(obs).items()}, {self._check_state(obs, alive)}
        while not ended and notes.step < max_steps:
            notes.step += 1
            actions = {a: self._sample_action(a) for a in alive}
            sent = copy.deepcopy(actions)
            obs, rewards, ends, cuts, infos = notes.step_env(env, actions)
            report.steps += 1
            if actions.keys() != sent.keys() or digest(actions) != digest(sent):
                notes.add(Finding("action-changed", "step wrote into the actions that it was given"))
            self._check_unchanged()
            if first and len(self.trace.steps) < _REPLAYED:
                self.trace.steps.append((sent, digests(obs, rewards, ends, cuts)))
            over = [a for a in alive if ends.get(a) or cuts.get(a)]
            ended = not [a for a in env.agents if a not in over]
            told = {"rewards": rewards, "terminations": ends, "truncations": cuts}
            now = self._check_observations(obs, infos, ended, **told)
            notes.add(*check_step(alive, now, obs, rewards, ends, cuts))
            others = [a for a in self.possible if a not in alive and a not in now]
            notes.add(*check_absent_rewards(others, report.shared_reward, observations=obs, **told))
            self._check_rewards([reward_number(rewards[a]) for a in alive if a in rewards])
            cut = any(cuts.get(a) and not ends.get(a) for a in over)
            report.arrivals |= not ended and any(a not in alive or a in over for a in now)
            report.deaths |= not ended and any(a not in now for a in alive)
            for agent, x in digests(obs).items():
                seen.setdefault(agent, set()).add(x)
            states.add(self._check_state(obs, now))
            alive = now
        self.episode_stats.append((notes.step, any(len(own) > 1 for own in seen.values()), len(states) > 1))
        if ended:
            report.endings["truncated" if cut else "terminated"] += 1
            report.lengths.append(notes.step)
        else:
            notes.add(Finding("never-ends", f"it had not ended after {max_steps:,} steps"))
        if list(env.possible_agents) != self.possible:
            raise notes.stop("possible-agents-changed", f"possible_agents is {list(env.possible_agents)} by now")

    def _check_observations(self, obs: Any, infos: Any, ended: bool = False, **given: Any) -> list[str]:
        """Who is there, after what each sees and may do was looked at."""
        notes, now = self.notes, [a for a in self.env.agents if a in self.possible]
        notes.add(*check_names(self.possible, self.env.agents, observations=obs, **given))
        self.masks = {}
        for agent in self.possible:
            if agent in obs:
                notes.add(*check_observation(agent, self.observes[agent], obs[agent]))
            elif agent in now:
                notes.add(Finding("no-observation", "it is on agents and observed nothing", agent))
            if agent in now and not ended:
                self._check_mask(agent, find_mask(obs.get(agent), infos.get(agent)))
        self._remember("an observation", obs)
        return now

    def _check_mask(self, agent: str, mask: Any) -> None:
        if self._masked.setdefault(agent, mask is not None) != (mask is not None):
            told = "a mask, and had none before" if mask is not None else "no mask, and had one before"
            self.notes.add(Finding("mask-late", f"it has {told}", agent))
        if mask is None:
            return
        self.notes.report.masks = True
        self._remember("a mask", mask)
        read = check_mask(agent, self.heads[agent].categorical, mask)
        if isinstance(read, Finding):
            self.notes.add(read)
            return
        self.masks[agent] = read
        if (kind := leaves(mask)[0].dtype).kind == "f":
            self.notes.add(Finding("mask-dtype", f"its mask is {kind}", agent))

    def _check_state(self, obs: Any, alive: list[str]) -> bytes:
        """Its digest, after it was looked at."""
        if not self.has_state:
            return b""
        given = self.notes.call("state", self.env.state)
        self._remember("a state", given)
        state = np.asarray(given)
        self.state_shape = state.shape if self.state_shape is None else self.state_shape
        if state.shape != self.state_shape:
            told = f"state() has the shape {state.shape}; it should be {self.state_shape}"
            self.notes.add(Finding("state-shape", told))
        if state.dtype.kind == "f" and not np.isfinite(state).all():
            self.notes.add(Finding("not-finite", f"state() holds {state[~np.isfinite(state)][0]}"))
        if not self.notes.step and alive == self.possible and all(a in obs for a in alive):
            parts = [np.concatenate([leaf.ravel() for leaf in leaves(obs[a])]).astype(np.float32) for a in alive]
            order = order_of(parts, state.astype(np.float32))
            if order is not None and order != sorted(order):
                told = ", ".join(str(self.possible[j]) for j in order)
                self.notes.add(Finding("state-order", f"state() holds the observations in the order {told}"))
        return digest(given)

    def _sample_action(self, agent: str) -> Any:
        """A random legal action."""
        heads, mask, space = self.heads[agent], self.masks.get(agent), self.acts[agent]
        columns, start = list[float](), 0
        for size in heads.categorical:
            legal = np.arange(size) if mask is None else mask[start : start + size].nonzero()[0]
            columns.append(int(self.rng.choice(legal)))
            start += size
        for low, high in zip(heads.low, heads.high, strict=True):
            bounded = np.isfinite(low) and np.isfinite(high)
            columns.append(self.rng.uniform(low, high) if bounded else float(np.clip(self.rng.normal(), low, high)))
        own: Any = heads.to_space_action(np.array(columns))
        if isinstance(space, spaces.Discrete):
            return own.item()
        own = own.astype(space.dtype)
        return own.clip(space.low, space.high) if isinstance(space, spaces.Box) else own

    def _remember(self, what: str, given: Any) -> None:
        self._held += [(what, leaf, leaf.copy()) for leaf in leaves(given) if _numpy_kinds(leaf)]

    def _check_unchanged(self) -> None:
        """What was returned last time is as it was."""
        for what, given, then in self._held:
            if not np.array_equal(given, then, equal_nan=given.dtype.kind == "f"):
                self.notes.add(Finding("aliasing", f"{what} that was returned before has changed since"))
        self._held = []

    def _check_rewards(self, rewards: list[float]) -> None:
        report, different = self.notes.report, sorted(set(rewards))
        report.paid |= any(rewards)
        report.equal_rewards &= len(different) < 2
        if report.shared_reward and len(different) > 1:
            told = f"shared_reward is True, and agents were given {', '.join(f'{r:g}' for r in different)}"
            self.notes.add(Finding("not-shared", told))


def _numpy_kinds(x: Any) -> bool:
    """Its memory is numpy's own. Views of others, such as pygame's surfaces, may lock them while they are held."""
    while isinstance(x, np.ndarray):
        x = x.base
    return x is None

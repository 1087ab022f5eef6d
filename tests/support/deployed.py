"""Teams played by a process for each agent, which imports neither torch nor mappo and talks through pipes."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from mappo import load_actor
from mappo.deploy.c.program import find_compiler
from mappo.deploy.export import export_agents, folder_names
from mappo.deploy.formats import FormatName
from mappo.deploy.record import record_steps
from mappo.envs import from_python
from mappo.runs.directory import read_run
from paths import ROOT

EXAMPLES = ROOT / "examples" / "deploy"
# An import of torch or mappo ends the process.
GUARDED = """
import runpy, sys
sys.modules["torch"] = sys.modules["mappo"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class PythonAgent:
    """`loop.py` in a process."""

    steps = 0  # that it acted in

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", GUARDED, str(EXAMPLES / "loop.py"), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={})

    def act(self, observation: Any, mask: Any, is_first: bool) -> Any:
        step = {"observation": plain(observation), "is_first": is_first}
        return json.loads(self.ask(json.dumps(step if mask is None else step | {"mask": np.asarray(mask).tolist()})))

    def ask(self, line: str) -> str:
        self.steps += 1
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def close(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


class CAgent(PythonAgent):
    """`loop.c` and `policy.c`, compiled, in a process."""

    def __init__(self, folder: Path) -> None:
        contract = json.loads((folder / "contract.json").read_text())
        self.heads = contract["action"]["heads"]
        self.num_options = sum(head.get("options", 0) for head in self.heads)
        self.shape = contract["action"]["shape"]
        program = folder / "agent"
        flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", f"-I{folder}"]
        sources = [str(EXAMPLES / "loop.c"), str(folder / "policy.c")]
        subprocess.run([*find_compiler(), *flags, *sources, "-lm", "-o", str(program)], check=True)
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={})

    def act(self, observation: Any, mask: Any, is_first: bool) -> Any:
        legal = [1] * self.num_options if mask is None else np.asarray(mask).astype(int).tolist()
        numbers = np.asarray(observation, np.float32).ravel().tolist()
        words = self.ask(" ".join(map(repr, [int(is_first), *numbers, *legal]))).split()
        columns = [int(x) if head["kind"] == "choice" else float(x) for x, head in zip(words, self.heads, strict=True)]
        return np.reshape(columns, self.shape).tolist()


def plain(observation: Any) -> Any:
    """An observation as JSON holds it."""
    if isinstance(observation, Mapping):
        return {key: plain(x) for key, x in observation.items()}
    if isinstance(observation, list | tuple):
        return [plain(x) for x in observation]
    return np.asarray(observation).tolist()


def export(run: Path, env: Callable[[], Any], formats: Sequence[FormatName], out: Path, steps: int = 60) -> list[Path]:
    """Export all agents of a run; the folder of each."""
    policy = load_actor(run).policy
    _, config, spec = read_run(run)
    batched = from_python(env, 1, spec.fit_options(config.env.env_options))
    records = record_steps(batched, policy, steps, seed=11)
    batched.close()
    origin = {"env": "test", "run": "test", "checkpoint": "last", "step": 1, "precision": "float32"}
    export_agents(policy, policy.spec.agents, formats, out, origin, records)
    return [out / name for name in folder_names(policy.spec.agents)]


def play(env: Any, agents: Mapping[str, PythonAgent], seed: int) -> list[float]:
    """The return of each agent in an episode, with a process for each agent."""
    observations, infos = env.reset(seed=seed)
    totals = dict.fromkeys(agents, 0.0)
    played: set[str] = set()
    while env.agents:
        actions = {}
        for name in env.agents:
            mask = infos.get(name, {}).get("action_mask")
            action = agents[name].act(observations[name], mask, is_first=name not in played)
            space = env.action_space(name)
            actions[name] = action if isinstance(action, int) else np.asarray(action, space.dtype)
        played = set(env.agents)
        observations, rewards, _, _, infos = env.step(actions)
        for name, reward in rewards.items():
            totals[name] += float(reward)
    return list(totals.values())


class CameraRobots:
    """Two robots on a line, each with a camera, bytes (8, 10, 3), want to stand on the bright column."""

    possible_agents = ("left", "right")
    width = 10

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(0, 255, (8, self.width, 3), np.uint8)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(3, start=-1)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.clock = 0
        self.target = int(self.rng.integers(self.width))
        self.places = {agent: int(self.rng.integers(self.width)) for agent in self.agents}
        return self._look(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        self.clock += 1
        for agent, action in actions.items():
            self.places[agent] = int(np.clip(self.places[agent] + action, 0, self.width - 1))
        reward = -float(sum(abs(place - self.target) for place in self.places.values()))
        is_over = self.clock == 12
        seen = self._look()
        agents = self.agents
        self.agents = [] if is_over else agents
        rewards = dict.fromkeys(agents, reward / len(agents))
        return seen, rewards, dict.fromkeys(agents, False), dict.fromkeys(agents, is_over), {a: {} for a in agents}

    def _look(self) -> dict[str, np.ndarray]:
        seen = {}
        for agent in self.agents:
            image = self.rng.integers(0, 60, (8, self.width, 3)).astype(np.uint8)
            image[:, self.target, 0] = 255
            for name, place in self.places.items():
                image[:, place, 1 if name == agent else 2] = 255
            seen[agent] = image
        return seen

    def close(self) -> None:
        pass

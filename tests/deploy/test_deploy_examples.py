"""The programs of `examples/deploy` drive an exported agent."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deployed import EXAMPLES, PythonAgent, find_compiler
from mappo.deploy.build import build_agent_policy
from mappo.deploy.export import export_agents
from mappo.deploy.record import record_steps
from mappo.deploy.verify import verify
from teams import ORIGIN, TEAMS, random_actor
from vectorized import from_factory


def export(kind: str, formats: Any, out: Path, steps: int = 40) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder and the record of a team's first agent."""
    env = from_factory(TEAMS[kind].make, 1)
    actor = random_actor(env.spec, **TEAMS[kind].network)
    records = record_steps(env, actor.policy, steps, seed=3)
    first = actor.policy.spec.agents[:1]
    export_agents(actor.policy, first, formats, out, ORIGIN, records)
    assert build_agent_policy(actor.policy, 0)
    return out / first[0], records[0]


@pytest.mark.skipif(not find_compiler(), reason="needs a C compiler")
def test_the_loop_in_c_repeats_the_record_and_touches_no_foreign_byte(tmp_path: Path):
    folder, record = export("gru-masks", ["c"], tmp_path / "out")
    assert [(verdict.file, verdict.problem, verdict.skipped) for verdict in verify(folder, allow_code=True)] == [
        ("policy.c", "", "")
    ]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-fsanitize=address,undefined"]
    sources = [EXAMPLES / "loop.c", folder / "policy.c"]
    program = tmp_path / "agent"
    subprocess.run([*find_compiler(), *flags, f"-I{folder}", *sources, "-lm", "-o", program], check=True)
    rows = zip(record["is_first"], record["obs"], record["mask"], strict=True)
    lines = [" ".join(map(repr, [int(first), *obs.tolist(), *map(int, mask)])) for first, obs, mask in rows]
    answer = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True)
    assert [int(x) for x in answer.stdout.split()] == record["action"].tolist()
    assert record["is_first"].sum() > 2
    half = subprocess.run([program], input=lines[0] + " 0 0.5", capture_output=True, text=True, check=False)
    assert half.returncode == 1  # a step that breaks off


@pytest.mark.slow
def test_the_loop_in_python_repeats_the_record_without_torch(tmp_path: Path):
    folder, record = export("dict-gru", ["onnx"], tmp_path / "out")
    agent = PythonAgent(folder)
    for k in range(40):
        parts = {name.removeprefix("obs."): x[k].tolist() for name, x in record.items() if name.startswith("obs")}
        more = {int(name[5:]): parts.pop(name) for name in list(parts) if name.startswith("more.")}
        observation = parts | {"more": [more[j] for j in range(len(more))]}
        action = agent.act(observation, None, is_first=bool(record["is_first"][k]))
        assert action == pytest.approx(record["action"][k].tolist(), abs=1e-4)
    agent.close()


def run_loop(*arguments: str | Path, text: str = "") -> tuple[int, str]:
    """Exit code and messages of `loop.py`."""
    command = [sys.executable, EXAMPLES / "loop.py", *arguments]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    return run.returncode, run.stderr


def test_the_loop_in_python_names_a_wrong_folder(tmp_path: Path):
    code, message = run_loop(tmp_path)
    assert code == 2
    assert message.startswith(f"{tmp_path} holds no agent of `mappo export --to onnx` (")
    assert message.count("\n") == 1


@pytest.mark.slow
def test_the_loop_in_python_names_damaged_files_and_wrong_steps(tmp_path: Path):
    folder, _ = export("discrete", ["onnx"], tmp_path / "out", steps=10)
    for text, reason in (
        ('{"observation": [1, 2]}', r"ValueError: cannot reshape"),
        ("{}", r"KeyError: 'observation'"),
        ("no JSON", "JSONDecodeError"),
    ):
        code, message = run_loop(folder, text=text)
        assert (code, message.count("\n")) == (2, 1)
        assert f"line 1 is no step of this agent ({reason}" in message
    (folder / "policy.onnx").write_bytes(b"damaged")
    code, message = run_loop(folder)
    assert (code, message.count("\n")) == (2, 1)
    assert "holds no agent" in message
    assert run_loop() == (2, "usage: python loop.py FOLDER/AGENT\n")


class FakeNode:
    """The part of `rclpy.node.Node` that the example uses."""

    def __init__(self, name: str) -> None:
        self.topics: dict[str, Any] = {}
        self.published: list[list[float]] = []

    def create_subscription(self, kind: type, topic: str, callback: Any, depth: int) -> None:
        self.topics[topic] = callback

    def create_publisher(self, kind: type, topic: str, depth: int) -> Any:
        return SimpleNamespace(publish=lambda message: self.published.append(message.data))

    def create_timer(self, period: float, callback: Any) -> None:
        self.timer = callback


class FakeAgent:
    """Answers with the first number of the observation; remembers where episodes began."""

    def __init__(self, folder: str) -> None:
        self.starts: list[bool] = []

    def act(self, observation: Any, is_first: bool) -> np.ndarray:
        self.starts.append(is_first)
        return np.float32(observation[0])


def test_the_ros_node_acts_on_the_newest_observation_and_begins_episodes(monkeypatch: pytest.MonkeyPatch):
    def module(name: str, **content: Any) -> None:
        fake = ModuleType(name)
        vars(fake).update(content)
        monkeypatch.setitem(sys.modules, name, fake)

    module("rclpy")
    module("rclpy.node", Node=FakeNode)
    module("std_msgs")
    module("std_msgs.msg", Empty=SimpleNamespace, Float32MultiArray=SimpleNamespace)
    module("loop", Agent=FakeAgent)
    spec = importlib.util.spec_from_file_location("ros_node", EXAMPLES / "ros_node.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    node = example.PolicyNode("folder")
    node.timer()  # no observation yet
    for value in (1.0, 2.0):
        node.topics["observation"](SimpleNamespace(data=[value]))
    node.timer()
    node.timer()
    node.topics["start"](None)
    node.timer()  # the old observation no longer counts
    node.topics["observation"](SimpleNamespace(data=[3.0]))
    node.timer()
    assert node.published == [[2.0], [2.0], [3.0]]
    assert node.agent.starts == [True, False, True]

"""The recipes for clusters run, as far as one machine can run them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from mappo.cli.parsing import parse
from mappo.runs.directory import read_run
from mappo.system.launched import NEEDED
from paths import PYTHONPATH, ROOT
from training_runs import assert_same

FOLDER = ROOT / "examples" / "cluster"
SETTINGS = {
    "env.num-envs": 8,
    "network.hidden": 8,
    "ppo.epochs": 1,
    "ppo.minibatches": 2,
    "ppo.rollout-length": 10,
    "run.total-steps": 80 * 60,
    "run.eval-interval": 800,
    "run.eval-episodes": 5,
    "run.score-episodes": 0,
    "run.replay-episodes": 0,
    "run.progress": "off",
}
SMALL = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
SRUN = """#!{python}
import os, signal, subprocess, sys
count = int(os.environ["SLURM_NTASKS"])
places = [os.environ | {{"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)}} for k in range(count)]
tasks = [subprocess.Popen(sys.argv[1:], env=place) for place in places]
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
with open("srun", "w") as file:
    print(os.getpid(), file=file)
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/bin/sh
case $1 in
  show) echo 127.0.0.1 ;;
  requeue) echo "$2" >> requeued ;;
esac
"""


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.s*")), ids=lambda path: path.name)
def test_scripts_are_valid(script: Path):
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_page_shows_the_files():
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for name in ("train.sbatch", "torchrun.sh"):
        lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
        code = [line for line in lines if not line.startswith("#") or line.startswith("#SBATCH")]
        assert "\n".join(code).strip() in page, name
    for file in FOLDER.iterdir():
        assert f"../examples/cluster/{file.name}" in page, file.name


def test_the_job_of_kubernetes_starts_a_run_of_several_processes():
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    spec = job["spec"]
    [container] = spec["template"]["spec"]["containers"]
    assert parse(container["command"][1:]).config.run.exists == "resume"
    variables = {variable["name"]: variable for variable in container["env"]}
    assert variables.keys() >= {*NEEDED, "WORLD_SIZE"}
    assert int(variables["WORLD_SIZE"]["value"]) == spec["completions"] == spec["parallelism"]
    name = job["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert variables["MASTER_ADDR"]["value"] == f"{name}-0.{spec['template']['spec']['subdomain']}"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]


def make_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def environment(folder: Path) -> dict[str, str]:
    """Programs of a cluster, and `mappo`, in a folder ahead of all others on the path."""
    programs = folder / "bin"
    programs.mkdir()
    make_program(programs / "mappo", f'#!/bin/sh\nexec {sys.executable} -m mappo "$@"\n')
    make_program(programs / "torchrun", f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n')
    make_program(programs / "srun", SRUN.format(python=sys.executable))
    make_program(programs / "scontrol", SCONTROL)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": PYTHONPATH, "GLOO_SOCKET_IFNAME": "lo"}


def until_rows(run: Path, count: int) -> None:
    end = time.monotonic() + 600
    table = run / "metrics.csv"
    while not table.exists() or len(table.read_text().splitlines()) <= count:
        assert time.monotonic() < end
        time.sleep(0.01)


def whole_run(folder: Path, env: dict[str, str]) -> Path:
    """A run of two processes that nobody touched."""
    command = ["mappo", "train", "spread", *SMALL, "--run.dir", str(folder / "whole"), "--run.processes", "2"]
    subprocess.run([str(folder / "bin" / command[0]), *command[1:]], env=env, check=True, capture_output=True)
    return folder / "whole"


@pytest.mark.slow
def test_a_job_of_slurm_goes_back_into_the_queue_until_its_run_is_complete(tmp_path: Path):
    env = environment(tmp_path)
    variables = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    job = ["bash", str(FOLDER / "train.sbatch"), "spread", *SMALL, "--run.name", "x"]
    codes: list[int] = []
    for start, updates in enumerate((5, 20, 1_000)):
        restarts = {"SLURM_RESTART_COUNT": str(start)}
        process = subprocess.Popen(job, cwd=tmp_path, env=env | variables | restarts)
        if updates < 60:
            until_rows(tmp_path / "runs" / "x", updates)
            os.kill(int((tmp_path / "srun").read_text()), signal.SIGUSR1)
        codes.append(process.wait(60))
    assert codes == [3, 3, 0]
    assert (tmp_path / "requeued").read_text() == "4711\n4711\n"
    assert_same(tmp_path / "runs" / "x", whole_run(tmp_path, env))


@pytest.mark.slow
def test_an_array_of_slurm_trains_a_seed_in_each_job(tmp_path: Path):
    env = environment(tmp_path) | {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "1", "SLURM_ARRAY_TASK_ID": "3"}
    job = ["bash", str(FOLDER / "seeds.sbatch"), "spread", *SMALL]
    process = subprocess.Popen(job, cwd=tmp_path, env=env)
    until_rows(tmp_path / "runs" / "seed-3", 3)
    os.kill(int((tmp_path / "srun").read_text()), signal.SIGUSR1)
    assert process.wait(60) == 3
    assert (tmp_path / "requeued").read_text() == "12\n"
    assert subprocess.run(job, cwd=tmp_path, env=env).returncode == 0
    assert read_run(tmp_path / "runs" / "seed-3")[1].run.seed == 3


@pytest.mark.slow
def test_torchrun_trains_the_same_run(tmp_path: Path):
    env = environment(tmp_path)
    job = ["bash", str(FOLDER / "torchrun.sh"), "spread", *SMALL, "--run.name", "x"]
    subprocess.run(job, cwd=tmp_path, env=env | {"PORT": "29417"}, check=True, capture_output=True)
    assert_same(tmp_path / "runs" / "x", whole_run(tmp_path, env))


def settings_of(run: Path) -> dict[str, Any]:
    config = parse(["train", "spread", *SMALL, "--run.dir", str(run)]).config.to_dict()
    return config | {"run": config["run"] | {"exists": "resume"}}


def warn_tasks(job_id: str) -> None:
    """Send SIGUSR2 to all tasks of a job of submitit, as SLURM does: the local executor has no way to."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            variables = path.read_text().split("\0")
            if f"SUBMITIT_LOCAL_JOB_ID={job_id}" in variables:
                os.kill(int(path.parent.name), signal.SIGUSR2)


@pytest.mark.cluster
def test_submitit_puts_a_warned_run_back_into_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    env = environment(tmp_path)
    for name in ("PYTHONPATH", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, f"{FOLDER}{os.pathsep}{env[name]}" if name == "PYTHONPATH" else env[name])
    monkeypatch.syspath_prepend(str(FOLDER))
    from with_submitit import submit

    run = tmp_path / "run"
    job = submit("local", tmp_path / "jobs", "spread", settings_of(run))
    until_rows(run, 5)
    warn_tasks(job.job_id)
    assert job.results() == [80 * 60, 80 * 60]
    assert "this job is preempted" in job._sub_jobs[0].stderr()  # submitit's own words: it went back into the queue
    assert_same(run, whole_run(tmp_path, env))


@pytest.mark.cluster
def test_actors_of_ray_train_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import ray

    env = environment(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    from with_ray import train

    variables = {"PYTHONPATH": f"{FOLDER}{os.pathsep}{PYTHONPATH}", "GLOO_SOCKET_IFNAME": "lo"}
    ray.init(num_cpus=2, runtime_env={"env_vars": variables}, include_dashboard=False)
    try:
        assert train("spread", settings_of(tmp_path / "run")) == [80 * 60, 80 * 60]
    finally:
        ray.shutdown()
    assert_same(tmp_path / "run", whole_run(tmp_path, env))

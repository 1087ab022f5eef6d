"""The page of `mappo envs NAME`: agents, spaces, episodes, baselines, and the presets with their measured scores."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mappo import envs
from mappo.backend.process_settings import EnvSettings
from mappo.config.presets import original_of, presets_of, twin_of
from mappo.config.tasks import Task, measured
from mappo.core.protocols import Environment
from mappo.core.spec import ActionHeads
from mappo.core.timestep import TimeStep
from mappo.envs.check.report import AgentGroup, Report, facts_table, space_text
from mappo.envs.create import is_batched_env
from mappo.evaluation.options import SCORE_SEED
from mappo.policies.random_policy import RandomPolicy
from mappo.system.shutdown import CloseLimit, closing
from mappo.system.stdio import say, terminal_width

# Steps of random play: longer episodes are told as such.
_MAX_STEPS = 2000
_FOOTNOTE = (
    "Returns are the team's, a mean for each seed. CPU-minutes are those of a run on a core of an AMD EPYC (Zen 5). "
    "Empty fields were not measured."
)


def show_environment(name: str, close_limit: CloseLimit) -> None:
    """Print the page of an environment.

    Raises:
        UserError: the environment cannot be made.
    """
    console = Console(width=min(100, terminal_width()), highlight=False)
    options = replace(envs.preset(name).env.env_options, workers=0)
    with EnvSettings():
        env = envs.make_envs(name, 64 if is_batched_env(name) else 1, options)
    with closing(env, close_limit):
        report = play_randomly(env, name)
        baselines = ["random", *envs.baselines(name, env.spec)]
    console.print(Rule(Text.assemble("mappo envs ", (name, "bold")), align="left", style="dim"))
    if envs.is_native(name):
        family = envs.find_family(name)
        say(f"\n  {(family[0] if family else envs.NATIVE[name]).summary}")
    facts = facts_table(report)
    if not report.lengths:
        facts.add_row("episodes", f"more than {_MAX_STEPS:,} steps with random actions")
    facts.add_row("baselines", ", ".join(baselines))
    if original := original_of(name):
        package = original.partition("/")[0]
        facts.add_row("original", f"{original}; `mappo evaluate RUN --on {package}` scores a run on it")
    if twin := twin_of(name):
        facts.add_row("twin", f"{twin}: the same environment, batched in torch")
    console.print(Padding(facts, (1, 0, 1, 2)))
    presets = presets_of(name)
    if not presets:
        say("  No preset is tuned for this environment: training starts from general settings.")
        return
    tasks = {preset: measured(name, preset) for preset in presets}
    console.print(Padding(_presets_table({p: c.run.total_steps for p, c in presets.items()}, tasks), (0, 0, 1, 2)))
    for line in _footnotes([task for task in tasks.values() if task is not None]):
        say(f"  {line}")


def _presets_table(steps: dict[str, int], tasks: dict[str, Task | None]) -> Table:
    """Return the table of the presets."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("preset", "steps", "return after training", "CPU-minutes"):
        table.add_column(title, justify="right" if title in ("steps", "CPU-minutes") else "left")
    for preset, total in steps.items():
        found = tasks[preset]
        minutes = "" if found is None or found.cpu_minutes is None else f"{found.cpu_minutes:g}"
        table.add_row(preset, f"{total:,}", "" if found is None else _returns_text(found, total), minutes)
    return table


def _returns_text(found: Task, total: int) -> str:
    """Return the range of the returns over seeds, and where they differ from the preset and from other rows."""
    low = f"{min(found.returns):,g}"
    high = f"{max(found.returns):,g}"
    seeds = f"{len(found.returns)} seed{'s' * (len(found.returns) > 1)}"
    steps = f", {found.steps:,} steps" if found.steps != total else ""
    return f"{low if low == high else f'{low} to {high}'} ({found.policy}, {seeds}{steps})"


def _footnotes(tasks: Sequence[Task]) -> list[str]:
    """Return the baselines' returns, once for each number of episodes, and the meaning of the columns."""
    baselines: dict[str, None] = {}
    for found in tasks:
        if found.baselines:
            values = ", ".join(f"{name} {value:,g}" for name, value in found.baselines.items())
            baselines[f"Baselines over {found.episodes:,} episodes: {values}."] = None
    return [*baselines, _FOOTNOTE] if tasks else []


def play_randomly(env: Environment, name: str) -> Report:
    """Play an episode in each environment with random legal actions; return the facts about the environment."""
    spec = env.spec
    groups = [
        AgentGroup(
            tuple(agent for agent, g in zip(spec.agents, spec.groups, strict=True) if g == group),
            space_text(spec.obs_spaces[spec.groups.index(group)]),
            _actions_text(spec.action_heads[spec.groups.index(group)]),
        )
        for group in dict.fromkeys(spec.groups)
    ]
    report = Report(name, SCORE_SEED, agents=spec.agents, groups=groups)
    report = replace(report, state_shape=spec.state_shape, shared_reward=spec.shared_reward)
    policy = RandomPolicy(spec, 0, env.device)
    with EnvSettings():
        step = env.reset(range(SCORE_SEED, SCORE_SEED + env.num_envs))
    report.masks = step.mask is not None
    report.arrivals = not bool(step.active.all())
    is_running = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    for t in range(1, _MAX_STEPS + 1):
        was_active = step.active
        action, _ = policy(step.obs, mask=step.mask)
        with EnvSettings():
            step = env.step(action)
        _record(report, step, is_running, was_active, t)
        is_running &= ~step.ended
        if not is_running.any():
            break
    return report


def _record(report: Report, step: TimeStep, is_running: torch.Tensor, was_active: torch.Tensor, t: int) -> None:
    """Add a step of the environments that are still in their first episode to the facts."""
    reward = step.reward[is_running]
    report.paid = report.paid or bool(reward.any())
    report.equal_rewards = report.equal_rewards and bool((reward == reward[:, :1]).all())
    goes_on = is_running & ~step.ended
    report.deaths = report.deaths or bool((was_active & ~step.active)[goes_on].any())
    report.arrivals = report.arrivals or bool((~was_active & step.active)[goes_on].any())
    ended = is_running & step.ended
    num_terminated = int(step.terminated[ended].all(-1).sum())
    report.lengths += [t] * int(ended.sum())
    counts = {"terminated": num_terminated, "truncated": int(ended.sum()) - num_terminated}
    report.endings.update({ending: count for ending, count in counts.items() if count})


def _actions_text(heads: ActionHeads) -> str:
    """Return the action space of an agent in few words."""
    sizes = ", ".join(map(str, heads.categorical))
    texts = [f"Discrete({sizes})" if len(heads.categorical) == 1 else f"MultiDiscrete({sizes})"] if sizes else []
    if heads.low:
        texts.append(f"Box({min(heads.low):g} to {max(heads.high):g}, ({heads.continuous},))")
    return " and ".join(texts)

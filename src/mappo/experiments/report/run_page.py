"""Page of a single run, of one or several seeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mappo.config.bounds import option_name
from mappo.config.config import is_code
from mappo.envs.names import CUSTOM
from mappo.evaluation.number_format import format_return, return_format
from mappo.evaluation.series import EVALUATION, FEWEST_SMOOTHED, RETURN, Seeds, smooth
from mappo.evaluation.statistics import compare_to_baseline, summarize_policies
from mappo.experiments.compare.finding import FoundRun
from mappo.experiments.compare.grouping import format_value
from mappo.experiments.compare.record import Record
from mappo.experiments.report.command_line import changed_settings, repeat_command
from mappo.experiments.report.content import Block, Chart, Command, Fact, Page, Replay, Table, join_seeds, line
from mappo.experiments.report.curves import level, mean_line, read_metrics, thin, thinned_note
from mappo.experiments.report.frames import read_replay
from mappo.experiments.report.origin import describe_origin, read_times

Format = Callable[[float], str]
STEPS = "Environment steps"
_SCORES = ("policy", "mean return", "95 % interval", "the run is ahead by")
# The metrics of most use come first.
_FIRST = ("entropy", "approx_kl", "clip_fraction", "explained_variance", "policy_loss", "value_loss")


def run_page(run: FoundRun, records: Sequence[Record], no_replay: str = "") -> Page:
    """Return the page of a run.

    Args:
        run: the run.
        records: the record of each seed.
        no_replay: the reason why no replay could be drawn.

    Raises:
        UserError: a file of the run is damaged.
    """
    scores = _read_scores(records)
    times = read_times([record.path for record in records])
    series, series_note = read_metrics([record.path / "metrics.csv" for record in records])
    file = run.path / "replay.gif"
    replay, replay_note = read_replay(file) if file.exists() else ({}, _replay_note(run.env, no_replay))
    changed, all_settings = _settings_tables(run)
    blocks: list[Block] = [_returns_chart(records, series, scores), _score_table(scores), changed]
    replay_block = Replay("Replay", replay, [replay_note] if replay_note else [], is_tall=bool(replay))
    # Pictures stand beside the tables; the mere note about a missing replay follows them.
    blocks.insert(1 if replay else len(blocks), replay_block)
    metrics = {name: seeds for name, seeds in series.items() if name not in (RETURN, "return_latest", EVALUATION)}
    if metrics:
        blocks.append(_metrics_chart(metrics))
    notes = [series_note] if series_note else []
    blocks.append(Table("Machine and versions", (), describe_origin(run.path, records), times.notes, is_text=True))
    note = "A repeated run of the same versions on the same machine has the same metrics.csv, byte for byte."
    blocks.append(Command("Repeat the run", repeat_command(run.env, run.config), [note]))
    blocks.append(all_settings)
    seeds = join_seeds(run.config.run.all_seeds)
    subtitle = f"{run.env}, seed{'s' * (len(records) > 1)} {seeds}"
    return Page(run.path.resolve().name, subtitle, _facts(records, scores, times.facts), blocks, notes)


def _replay_note(env: str, reason: str) -> str:
    """Return why a run has no replay, and how it gets one."""
    if reason:
        return f"There is no replay: {reason}."
    if env.startswith(CUSTOM):
        return (
            "There is no replay: mappo play cannot make the environment of a program. Train it by its name, such as "
            "my_module:make_env, and give it a method render() (docs/environments.md)."
        )
    needed = " for an environment with a method render() (docs/environments.md)" * is_code(env)
    return f"There is no replay: mappo play RUN draws one{needed}, and mappo report RUN makes this page again."


def _read_scores(records: Sequence[Record]) -> dict[str, Any]:
    """Return the final scores: policies by name, baselines, number of episodes and environment; {} without scores."""
    saved = [record.score for record in records if record.final_returns is not None and record.score is not None]
    if len(saved) < len(records):
        return {}
    names = [name for name in saved[0].returns if all(name in score.returns for score in saved)]
    baselines = [name for name in saved[0].baselines if all(name in score.baselines for score in saved)]
    count = min(score.num_episodes for score in saved)
    returns = {name: np.array([score.returns[name][:count] for score in saved], dtype=float) for name in names}
    main = records[0].policy
    others = {name: np.array(saved[0].baselines[name][:count], dtype=float) for name in baselines}
    return {
        "main": main,
        "episodes": count,
        "env": f"{saved[0].env} ({saved[0].package_version})",
        "policies": {name: summarize_policies(values) for name, values in returns.items()},
        # Damaged files may have baselines of fewer episodes.
        "baselines": {name: compare_to_baseline(returns[main][:, : len(x)], x) for name, x in others.items()},
    }


def _facts(records: Sequence[Record], scores: Mapping[str, Any], times: Sequence[Fact]) -> list[Fact]:
    """Return score, lead and length of the run."""
    facts: list[Fact] = []
    if scores:
        score = scores["policies"][scores["main"]]
        show = decimals(scores)
        facts.append(Fact(f"Mean return, {scores['main']}", show(score["mean"]), _interval_words(score, show)))
        for name, baseline in list(scores["baselines"].items())[:1]:
            ahead = baseline["difference"]
            facts.append(Fact(f"Ahead of {name} by", show(ahead["mean"]), _interval_words(ahead, show)))
    else:
        steps = [record.last_evaluation() for record in records]
        means = [record.mean_at(step) for record, step in zip(records, steps, strict=True) if step is not None]
        value = format_return(float(np.mean(means))) if means else "none yet"
        facts.append(Fact("Last evaluation", minus(value), "the run has no score; mappo evaluate RUN makes it"))
    step = min(record.step for record in records)
    total = records[0].config.end_step
    state = next((record.state for record in records if record.state != "complete"), "complete")
    facts.append(Fact("Environment steps", f"{step:,}", f"of {total:,}, {state}"))
    return [*facts, *times]


def decimals(scores: Mapping[str, Any]) -> Format:
    """Return a function that formats returns, with decimals by their size."""
    format_spec = return_format(*(x["mean"] for x in [*scores["policies"].values(), *scores["baselines"].values()]))

    def show(value: float) -> str:
        return minus(format(value, format_spec))

    return show


def minus(text: str) -> str:
    """Return the text of a number with a true minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def _interval_text(score: Mapping[str, Any], show: Format) -> str:
    if score["ci95"] is None:
        return ""
    low, high = score["ci95"]
    return f"{show(low)} to {show(high)}"


def _interval_words(score: Mapping[str, Any], show: Format) -> str:
    text = _interval_text(score, show)
    return f"95 % interval {text}" if text else ""


def _returns_chart(records: Sequence[Record], series: Mapping[str, Seeds], scores: Mapping[str, Any]) -> Chart:
    """Return the chart of the returns in training and in evaluations, with the baselines."""
    lines: list[dict[str, Any]] = []
    training = series.get(RETURN, [])
    is_smoothed = any(len(values) >= FEWEST_SMOOTHED for _, values in training)
    for index, (steps, values) in enumerate(training if is_smoothed else []):
        x, y = thin(steps, values)
        lines.append(line("Training (sampled)" if not index else "", "thin", 5, np.round(x), y))
    if training:
        smoothed = [(steps, smooth(values)) for steps, values in training]
        name = "Training, smoothed" if is_smoothed else "Training (sampled)"
        lines.append(mean_line(name, "line", 0, smoothed))
    if evaluations := series.get(EVALUATION, []):
        lines.append(mean_line(f"{records[0].policy.capitalize()} evaluation", "dots", 1, evaluations))
    for index, (name, baseline) in enumerate(scores.get("baselines", {}).items()):
        lines.append(level(name, (7, 2, 3, 4, 6)[index % 5], baseline))
    notes = [f"Mean and 95 % interval of {len(records)} seeds."] if len(records) > 1 else []
    notes += thinned_note(training)
    if not training and not evaluations:
        notes.append("No episode is finished yet.")
    return Chart("Learning curve", STEPS, [{"name": "returns", "y": "Team return", "lines": lines}], notes)


def _score_table(scores: Mapping[str, Any]) -> Table:
    """Return the table of policies and baselines."""
    if not scores:
        return Table(
            "Score", (), [], ["There is no score of the last checkpoint: mappo evaluate RUN makes it."], is_half=True
        )
    show = decimals(scores)
    found = {f"run ({name})": score for name, score in scores["policies"].items()} | scores["baselines"]
    rows: list[list[tuple[str, str]]] = []
    for name, score in found.items():
        ahead = score.get("difference")
        lead = ("", "") if ahead is None else (show(ahead["mean"]), _interval_text(ahead, show))
        rows.append([(name, ""), (show(score["mean"]), ""), (_interval_text(score, show), ""), lead])
    note = f"{scores['episodes']:,} episodes of each policy on {scores['env']}, the same for all; the run is ahead by"
    note += f" its {scores['main']} policy."
    return Table("Score", _SCORES, rows, [note], is_half=True)


def _metrics_chart(metrics: Mapping[str, Seeds]) -> Chart:
    """Return a chart of all other columns of metrics.csv, one at a time."""
    order = [*(name for name in _FIRST if name in metrics), *(name for name in metrics if name not in _FIRST)]
    views = [{"name": name, "y": name, "lines": [mean_line(name, "line", 0, metrics[name])]} for name in order]
    seeds = [seed for found in metrics.values() for seed in found]
    return Chart("Metrics of the updates", STEPS, views, thinned_note(seeds))


def _settings_tables(run: FoundRun) -> tuple[Table, Table]:
    """Return the settings that differ from the preset, and, folded, all settings."""
    preset, changes = changed_settings(run.env, run.config)
    base = f"the preset {preset}" if preset else "the general settings"
    title = f"Settings that differ from {base}"
    rows = [
        [(option_name(section, name), ""), (format_value(value), ""), (format_value(other), "")]
        for section, name, value, other in changes
    ]
    notes = [] if changes else [f"All settings are those of {base}."]
    settings = run.config.to_dict().items()
    all_rows = [
        [(option_name(s, name), ""), (format_value(x), "")] for s, options in settings for name, x in options.items()
    ]
    return (
        Table(
            title, ("setting", "this run", "preset" if preset else "general"), rows, notes, is_text=True, is_half=True
        ),
        Table("All settings", ("setting", "value"), all_rows, is_text=True, is_folded=True),
    )

"""Options of `mappo compare`. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CompareOptions:
    """Options of a comparison; the docstrings of the fields are the --help texts of `mappo compare`."""

    by: tuple[str, ...] = ()
    """Settings that make the groups, such as ppo.actor-lr; by default all settings that differ."""
    out: Path = Path("compare.png")
    """File of the figure: PNG, PDF or SVG."""
    json: bool = False
    """Print a single JSON object and nothing else."""
    csv: Path | None = None
    """File for the table as CSV, a row for each group and environment."""
    latex: Path | None = None
    """File for the table in LaTeX, with the package booktabs."""
    markdown: Path | None = None
    """File for the tables in Markdown."""
    marl_eval: Path | None = None
    """File for all returns in the JSON format of marl-eval."""

"""Evaluations of a run's policies during training and at its end, on episodes never used for training."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mappo.algorithms.mappo import MAPPO
from mappo.config.run_settings import RunConfig
from mappo.core.protocols import Environment, TeamPolicy
from mappo.core.seeding import derive_seed
from mappo.errors import StopTraining, UserError
from mappo.evaluation.dealt import Deal
from mappo.evaluation.episodes import (
    EVALUATION_BUDGET,
    NO_BUDGET,
    SCORE_BUDGET,
    Budget,
    CutOffError,
    Episodes,
    StepCallback,
    part_of,
    play_episodes,
)
from mappo.evaluation.options import SCORE_EPISODES, SCORE_SEED, SELECT_SEED
from mappo.evaluation.progress import progress_notes
from mappo.evaluation.score import baseline_policies
from mappo.evaluation.statistics import mean_interval
from mappo.runs.scores import MAX_KEPT
from mappo.system.shutdown import Interrupts

# Name of the measure of the policy, greedy or sampled, that is not the policy of the evaluations.
AT_END = "at the end"
Interruption = UserError | StopTraining | KeyboardInterrupt
# Team return of each episode that was played, by its reset seed.
Returns = Mapping[int, float]


def mean_return(returns: Returns) -> float:
    """Return the mean team return of an evaluation."""
    return float(np.mean([*returns.values()]))


@dataclass(frozen=True)
class Summary:
    """Mean team return, its 95 % interval over episodes, and the number of episodes."""

    mean: float
    interval: tuple[float, float]
    episodes: int

    @staticmethod
    def of(returns: Sequence[np.ndarray]) -> "Summary":
        """Summarize the team returns `(N,)` of the policies of a team; several policies count by their mean."""
        episodes = min(map(len, returns))
        mean = np.mean([values[:episodes] for values in returns], 0)
        low, high = mean_interval(mean)
        return Summary(float(np.mean([values.mean() for values in returns])), (float(low), float(high)), episodes)


class Evaluator:
    """Team returns of policies in the episodes of the evaluations.

    Args:
        env: environment for evaluations, of this process.
        run: settings of the run: the policy and the number of episodes.
        interrupts: called at each step; may raise `StopTraining`.
        deal: the processes which play the episodes together; by default this process plays all.
    """

    def __init__(self, env: Environment, run: RunConfig, interrupts: Interrupts, deal: Deal | None = None) -> None:
        self.env = env
        self.interrupts = interrupts
        self.deal = deal or Deal()
        self.run_seeds = run.all_seeds
        self.is_sampled = run.eval_policy == "sampled"
        self.seeds = range(SELECT_SEED, SELECT_SEED + run.most_eval_episodes)
        # Baselines are of the same episodes in the curve and in the score.
        most = SCORE_EPISODES if run.eval_episodes is None else min(run.eval_episodes, SCORE_EPISODES)
        self.score_seeds = range(SCORE_SEED, SCORE_SEED + most)
        # The steps of an evaluation are limited, never its time: the numbers must not depend on a clock.
        self.budget = EVALUATION_BUDGET if run.eval_episodes is None else NO_BUDGET
        self.num_episodes = len(self.seeds)  # of the last policy
        self.agent_means: list[list[float]] = []  # of the last evaluation: mean return of each agent, by seed
        self.is_cut_off = False  # whether the last evaluation reached no end

    def evaluate(
        self, agents: Sequence[MAPPO], step: int, note: Callable[[str], None]
    ) -> tuple[list[Returns], Interruption | None]:
        """Evaluate the policy of each seed, by `run.eval_policy`.

        Args:
            agents: learner of each seed.
            step: environment steps so far, for notes.
            note: shows the progress of long evaluations.

        Returns:
            Returns of each seed's episodes, in order; of fewer seeds if an exception ended the evaluation. The
            exception, not raised: the row of metrics must be written first.
        """
        on_step = progress_notes(f"evaluation at step {step:,}", note, self.interrupts)
        actors = self._actors(agents, self.is_sampled)
        evaluations: list[Returns] = []
        self.agent_means = [[] for _ in agents]
        interruption: Interruption | None = None
        try:
            for index, actor in enumerate(actors):
                with self.interrupts.waiting():
                    played = self._play(actor, self.seeds, part_of(on_step, index, len(agents)), self.budget)
                evaluations.append(_by_seed(self.seeds, played))
                self.agent_means[index] = played.returns.mean(0).tolist()
        except (UserError, StopTraining, KeyboardInterrupt) as error:
            interruption = error
        self.is_cut_off = isinstance(interruption, CutOffError)
        return evaluations, interruption

    def kept_returns(self, returns: Returns) -> Returns:
        """Return the returns to record, of the first episodes alone if they are many; NaN if not played."""
        return {seed: returns.get(seed, math.nan) for seed in self.seeds[:MAX_KEPT]}

    def measure_at_end(self, name: str, agents: Sequence[MAPPO], note: Callable[[str], None]) -> dict[str, Summary]:
        """Measure baselines in the episodes of the score and, as `AT_END`, the other policy in those of evaluations.

        Args:
            name: name of the environment.
            agents: learner of each seed.
            note: shows the progress.

        Returns:
            Team returns by name; none if interrupted.
        """
        if self.is_cut_off:  # as a note has said
            return {}
        teams: dict[str, list[TeamPolicy]] = {AT_END: self._actors(agents, not self.is_sampled)}
        baselines = baseline_policies(self.env, name, self.score_seeds[0])
        teams |= {baseline: [policy] for baseline, policy in baselines.items()}
        policies = [policy for members in teams.values() for policy in members]
        all_seeds = [self.seeds] * len(agents) + [self.score_seeds] * len(baselines)
        on_step = progress_notes("episodes for the learning curve", note, self.interrupts)
        budget = replace(self.budget, seconds=SCORE_BUDGET.seconds)
        try:
            played = [
                self._play(policy, seeds, part_of(on_step, k, len(policies)), budget).team_returns
                for k, (policy, seeds) in enumerate(zip(policies, all_seeds, strict=True))
            ]
        except StopTraining:
            return {}
        except UserError as error:  # all else is saved
            if not self.deal.ranks.rank:
                warnings.warn(f"the curve shows no baselines: {error}", stacklevel=5)
            return {}
        batches = iter(played)
        return {team: Summary.of([next(batches) for _ in members]) for team, members in teams.items()}

    def _actors(self, agents: Sequence[MAPPO], is_sampled: bool) -> list[TeamPolicy]:
        """Return the present policy of each seed; each samples by random numbers of its own."""
        actors = [agent.actor(is_sampled) for agent in agents]
        for seed, agent, actor in zip(self.run_seeds, agents, actors, strict=True):
            if actor.generator is not None:
                actor.generator.manual_seed(derive_seed(seed, 4, agent.updates))
        return [*actors]

    def _play(self, policy: TeamPolicy, seeds: Sequence[int], on_step: StepCallback, budget: Budget) -> Episodes:
        played = play_episodes(self.env, policy, seeds, on_step, budget, self.deal)
        self.num_episodes = len(played.lengths)
        return played


def _by_seed(seeds: Sequence[int], played: Episodes) -> Returns:
    """Return the team's returns by reset seed; the episodes are the first of the seeds."""
    team_returns: list[float] = played.team_returns.tolist()
    return dict(zip(seeds, team_returns, strict=False))

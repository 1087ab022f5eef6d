"""How fast training is, against what one would write first: `python benchmarks/speed.py --help`.

Two learners of one algorithm on one environment take turns in one process, so that whatever else the machine
does slows both alike. The straightforward one below is frozen: it changes only where it is wrong.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from record import RESULTS, append, circumstances
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import huber_loss
from torch.nn.utils import clip_grad_norm_

from mappo.envs.batched.spread import Spread
from mappo.experiments.workload import RECIPES, Cost, TimedPart, Workload, matmul_part, measure, reference
from mappo.system import hardware as machine

# The reference work, as in `mappo.experiments.workload.reference`; tests/experiments/test_benchmarks.py compares both.
AGENTS, ENVS, STEPS, HIDDEN, EPOCHS, MINIBATCHES = 3, 128, 25, 64, 10, 1
OBS, STATE, ACTIONS = 6 * AGENTS, 6 * AGENTS * AGENTS, 5
LR, ADAM_EPS, GAMMA, LAMBDA, CLIP, ENTROPY, GRAD_NORM = 7e-4, 1e-5, 0.99, 0.95, 0.2, 0.01, 10.0
HUBER, VALUE_CLIP = 10.0, 0.2  # of the full recipe, as are tanh, LayerNorm and value normalisation

Update = Callable[[], float]  # one rollout and its gradient steps -> mean return of the episodes


class RunningNorm:
    """Mean and deviation of the returns, moved at every minibatch."""

    def __init__(self, beta: float = 0.99999) -> None:
        self.beta, self.mean, self.square, self.weight = beta, torch.zeros(1), torch.zeros(1), torch.zeros(1)

    def update(self, x: Tensor) -> None:
        self.mean = self.beta * self.mean + (1 - self.beta) * x.mean()
        self.square = self.beta * self.square + (1 - self.beta) * x.square().mean()
        self.weight = self.beta * self.weight + (1 - self.beta)

    def moments(self) -> tuple[Tensor, Tensor]:
        weight = self.weight.clamp_min(1e-5)
        mean = self.mean / weight
        return mean, (self.square / weight - mean**2).clamp_min(1e-2).sqrt()

    def normalize(self, x: Tensor) -> Tensor:
        mean, std = self.moments()
        return (x - mean) / std

    def denormalize(self, x: Tensor) -> Tensor:
        mean, std = self.moments()
        return x * std + mean


def dense(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """A layer initialised as in the paper's code."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, outputs: int, last_gain: float, full: bool) -> nn.Sequential:
    """Two hidden layers, with LayerNorm on the input and behind each activation in the full recipe."""
    gain = nn.init.calculate_gain("tanh" if full else "relu")
    layers: list[nn.Module] = [nn.LayerNorm(inputs)] if full else []
    for a, b in ((inputs, HIDDEN), (HIDDEN, HIDDEN)):
        layers += [dense(a, b, gain), nn.Tanh() if full else nn.ReLU()]
        if full:
            layers.append(nn.LayerNorm(b))
    return nn.Sequential(*layers, dense(HIDDEN, outputs, last_gain))


class Straightforward:
    """MAPPO as one writes it first: a critic row for each agent, lists, torch.distributions, two Adams."""

    def __init__(self, recipe: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.full = recipe == "full"
        self.actor = mlp(OBS, ACTIONS, 0.01, self.full)
        self.critic = mlp(STATE, 1, 1.0, self.full)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=LR, eps=ADAM_EPS)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=LR, eps=ADAM_EPS)
        self.norm = RunningNorm()
        self.env = Spread(ENVS, AGENTS)
        self.obs = self.env.reset(seed).obs
        self.returns = torch.zeros(ENVS)

    def state(self, obs: Tensor) -> Tensor:
        """All observations side by side, once for each agent."""
        return obs.flatten(1).unsqueeze(1).repeat(1, AGENTS, 1)

    def value(self, state: Tensor) -> Tensor:
        return self.critic(state).squeeze(-1)

    @torch.no_grad()
    def collect(self) -> tuple[list[Tensor], float]:
        """Rows (T * E * A, ...) of observation, state, action, log-probability, value, return, advantage."""
        seen: list[list[Tensor]] = [[] for _ in range(7)]
        finished: list[Tensor] = []
        for _ in range(STEPS):
            obs, state = self.obs, self.state(self.obs)
            policy = Categorical(logits=self.actor(obs))
            action = policy.sample()
            step = self.env.step(action.unsqueeze(-1))
            reward = step.reward.sum(-1, keepdim=True).repeat(1, AGENTS)  # the team's, for each agent
            ended = step.ended.unsqueeze(-1).repeat(1, AGENTS)
            self.returns += reward[:, 0]
            if step.ended.any():  # a time limit, never an end: what would have come next still counts
                after = self.value(self.state(step.next_obs))
                reward = reward + GAMMA * (self.norm.denormalize(after) if self.full else after) * ended
                finished.append(self.returns[step.ended].mean())
                self.returns = self.returns * ~step.ended
            row = (obs, state, action, policy.log_prob(action), self.value(state), reward, ended.float())
            for values, x in zip(seen, row, strict=True):
                values.append(x)
            self.obs = step.obs
        obs, state, action, log_prob, value, reward, ended = (torch.stack(x) for x in seen)
        raw = torch.cat([value, self.value(self.state(self.obs)).unsqueeze(0)])
        if self.full:
            raw = self.norm.denormalize(raw)
        adv, advantages = torch.zeros(ENVS, AGENTS), []
        for t in reversed(range(STEPS)):
            delta = reward[t] + GAMMA * raw[t + 1] * (1 - ended[t]) - raw[t]
            adv = delta + GAMMA * LAMBDA * (1 - ended[t]) * adv
            advantages.insert(0, adv)
        adv = torch.stack(advantages)
        rows = (obs, state, action, log_prob, value, adv + raw[:-1], (adv - adv.mean()) / (adv.std() + 1e-8))
        return [x.flatten(0, 2) for x in rows], torch.stack(finished).mean().item()

    def value_loss(self, new: Tensor, old: Tensor, target: Tensor) -> Tensor:
        if not self.full:
            return (target - new).square().mean() / 2
        self.norm.update(target)
        target = self.norm.normalize(target)
        near = old + (new - old).clamp(-VALUE_CLIP, VALUE_CLIP)
        losses = (huber_loss(x, target, reduction="none", delta=HUBER) for x in (new, near))
        return torch.max(*losses).mean()

    def update(self) -> float:
        rows, episode_return = self.collect()
        metrics = []
        for _ in range(EPOCHS):
            for index in torch.randperm(len(rows[0])).chunk(MINIBATCHES):
                obs, state, action, log_prob_old, value_old, target, adv = (x[index] for x in rows)
                policy = Categorical(logits=self.actor(obs))
                log_prob, entropy = policy.log_prob(action), policy.entropy().mean()
                log_ratio = log_prob - log_prob_old
                ratio = log_ratio.exp()
                policy_loss = -torch.min(ratio * adv, ratio.clamp(1 - CLIP, 1 + CLIP) * adv).mean()
                self.actor_optimizer.zero_grad()
                (policy_loss - ENTROPY * entropy).backward()
                actor_norm = clip_grad_norm_(self.actor.parameters(), GRAD_NORM)
                self.actor_optimizer.step()
                value_loss = self.value_loss(self.value(state), value_old, target)
                self.critic_optimizer.zero_grad()
                value_loss.backward()
                critic_norm = clip_grad_norm_(self.critic.parameters(), GRAD_NORM)
                self.critic_optimizer.step()
                with torch.no_grad():
                    kl = (ratio - 1 - log_ratio).mean()
                    clipped = ((ratio - 1).abs() > CLIP).float().mean()
                row = (policy_loss, value_loss, entropy, kl, clipped, actor_norm, critic_norm)
                metrics.append(torch.stack([x.detach() for x in row]))
        torch.stack(metrics).mean(0).tolist()  # what a log reads, once for each update
        return episode_return


def straightforward(recipe: str, seed: int) -> Update:
    """The learner above."""
    return Straightforward(recipe, seed).update


def ours(recipe: str, seed: int) -> Update:
    """The library's learner and collector, with the same settings."""
    training = Workload(reference(recipe, ENVS), seed=seed)
    return lambda: training.update()["return_sum"]


def bare(recipe: str, seed: int) -> Update:
    """The matrix products of this work and nothing else, with one critic row for each environment."""
    work = matmul_part(Workload(reference(recipe, ENVS), seed=seed)).work

    def update() -> float:
        work()
        return 0.0

    return update


SYSTEMS = {"straightforward": straightforward, "mappo": ours, "bare products": bare}


def turns(recipe: str, rounds: int, updates: int) -> dict[str, list[Cost]]:
    """CPU and wall seconds for each 1,000 environment steps, of each system in each round."""
    systems = [TimedPart(name, make(recipe, 1)) for name, make in SYSTEMS.items()]
    return measure(systems, ENVS * STEPS, rounds, repeats=updates)


def summary(seconds: dict[str, list[Cost]]) -> list[dict[str, object]]:
    """A row for each system; `ratio` is the median over rounds of straightforward / this, of CPU seconds."""
    rows: list[dict[str, object]] = []
    for name, times in seconds.items():
        cpu, wall = ([t[i] for t in times] for i in (0, 1))
        ratios = [base[0] / own for base, own in zip(seconds["straightforward"], cpu, strict=True)]
        rows.append(
            {
                "system": name,
                "cpu_s_per_1k": round(statistics.median(cpu), 5),
                "cpu_s_min": round(min(cpu), 5),
                "cpu_s_max": round(max(cpu), 5),
                "wall_s_per_1k": round(statistics.median(wall), 5),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_min": round(min(ratios), 3),
                "ratio_max": round(max(ratios), 3),
            }
        )
    return rows


def report(console: Console, recipe: str, rows: list[dict[str, object]]) -> None:
    """The table of one recipe."""
    console.print(f"{recipe}: {AGENTS} agents, {ENVS} environments x {STEPS} steps, {EPOCHS} epochs")
    table = Table("system", box=None)
    for title in ("CPU-s/1k steps", "min-max", "wall-s/1k", "ratio", "min-max"):
        table.add_column(title, justify="right", no_wrap=True)
    for r in rows:
        cpu = f"{r['cpu_s_per_1k']:.4f}", f"{r['cpu_s_min']:.4f}-{r['cpu_s_max']:.4f}"
        ratio = f"{r['ratio']:.2f}", f"{r['ratio_min']:.2f}-{r['ratio_max']:.2f}"
        table.add_row(str(r["system"]), *cpu, f"{r['wall_s_per_1k']:.4f}", *ratio)
    console.print(table)
    ratios = {r["system"]: float(str(r["ratio"])) for r in rows}
    console.print(f"bare products: {ratios['mappo'] / ratios['bare products']:.0%} of mappo's CPU time\n")


def check(console: Console, recipe: str, steps: int, tolerance: float) -> bool:
    """Whether both learn, and alike: the mean return of the last tenth of the updates, one seed each."""
    count = max(10, steps // (ENVS * STEPS))
    start, end = [], []
    for name in ("straightforward", "mappo"):
        update = SYSTEMS[name](recipe, 1)
        returns = [update() for _ in range(count)]
        start.append(returns[0])
        end.append(statistics.fmean(returns[-(count // 10) :]))
        console.print(f"{recipe:6s} {name:16s} return {start[-1]:7.2f} -> {end[-1]:7.2f} in {count} updates")
    good = abs(end[0] - end[1]) <= tolerance and min(end) > max(start) + tolerance
    console.print(f"{recipe:6s} {'both learn, alike' if good else 'NOT alike, or not learning'}\n")
    return good


def main() -> int:
    """The command line; 1 if `--check` failed."""
    parser = argparse.ArgumentParser(description="Training speed on spread, beside a straightforward learner.")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each system")
    parser.add_argument("--updates", type=int, default=4, help="updates in each turn")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.csv")
    parser.add_argument("--check", action="store_true", help="train both, and compare what they reach")
    parser.add_argument("--check-steps", type=int, default=200_000, help="environment steps of each")
    parser.add_argument("--tolerance", type=float, default=5.0, help="difference of returns that passes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine.keep_freed_memory()  # as `mappo train`
    console = Console()
    if args.check:
        good = [check(console, recipe, args.check_steps, args.tolerance) for recipe in args.recipes]
        return 0 if all(good) else 1
    written = []
    for recipe in args.recipes:
        where = circumstances()
        rows = summary(turns(recipe, args.rounds, args.updates))
        report(console, recipe, rows)
        written += [{**where, "recipe": recipe, **row} for row in rows]
    append(args.out, written)
    console.print(f"added to {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

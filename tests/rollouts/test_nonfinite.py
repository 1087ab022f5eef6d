"""Numbers that are not finite reach no weight and no statistic; their source is named, and the run does as told."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import mappo
from chaos import Chaos
from games import Game
from mappo.algorithms.epochs import METRICS
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.timestep import Rollout
from mappo.errors import UserError
from mappo.rollouts.collector import Collector
from mappo.rollouts.env_checks import find_nonfinite
from mappo.runs import checkpoint
from mappo.runs.directory import seed_paths
from mappo.training.diagnostics import FAR, MAX_SKIP_NOTES, SeedDiagnostics
from mappo.training.trace_nonfinite import trace_nonfinite

BAD = [math.nan, math.inf, -math.inf]
FIELDS = ["obs", "next_obs", "state", "next_state", "reward"]


def learner(memory: int = 0, **ppo: Any) -> tuple[Chaos, Config]:
    env = Chaos(4)
    net = NetworkConfig((8,), memory_size=memory, obs_norm=True, critic_input="joint")
    settled = {"rollout_length": 6, "epochs": 2, "minibatches": 2} | ppo
    return env, Config(EnvConfig(num_envs=4), net, PPOConfig(**settled), RunConfig(total_steps=240))


def rolled(env: Chaos, agent: MAPPO | MultiSeed, count: int = 1) -> Rollout:
    generators = [torch.Generator() for _ in range(count)]
    return Collector(env, agent, 6, env.reset(0), generators if count > 1 else generators[0]).collect()[0]


def spoil(rollout: Rollout, field: str, t: int, e: int, bad: float) -> None:
    """Of an agent that acts: what others see is of no weight."""
    x = getattr(rollout, field)
    there = {"obs": rollout.active, "next_obs": rollout.next_active}.get(field, torch.ones_like(rollout.active))
    agent = int(there[t, e].long().argmax())
    place = (t, e) if "state" in field else (t, e, agent)
    if x[place].ndim:
        x[place][0] = bad
    else:
        x[place] = bad


def everything(agent: MAPPO) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in agent.state_dict().items()}


@settings(max_examples=60)
@given(
    st.sampled_from(FIELDS),
    st.sampled_from(BAD),
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from([0, 4]),
    st.booleans(),
    st.booleans(),
)
def test_nothing_that_is_not_finite_is_learned(
    field: str, bad: float, t: int, e: int, memory: int, popart: bool, norm: bool
):
    """In a loop of one's own, where nobody looks at what the environment gives."""
    env, config = learner(memory, popart=popart, advantage_norm=norm, value_norm=True)
    config = replace(config, network=replace(config.network, critic_input="env" if "state" in field else "joint"))
    torch.manual_seed(0)
    agent = MAPPO(env.spec, config)
    agent.update(rolled(env, agent))
    rollout = rolled(env, agent)
    spoil(rollout, field, t, e, bad)
    agent.update(rollout)
    assert all(x.isfinite().all() for x in agent.state_dict().values() if x.is_floating_point())


def test_numbers_whose_sum_overflows_are_finite():
    env, config = learner()
    rollout = rolled(env, MAPPO(env.spec, config))
    rollout.obs.fill_(3e38)
    rollout.reward.fill_(-3e38)
    assert find_nonfinite(rollout, env, [slice(0, 4)]) == [""]


def test_what_the_absent_see_is_passed_over_in_the_search():
    env, config = learner()
    rollout = rolled(env, MAPPO(env.spec, config))
    t, e, agent = (~rollout.active).nonzero()[0].tolist()
    rollout.obs[t, e, agent] = math.nan
    spoil(rollout, "obs", 5, 3, math.inf)
    assert "is inf, in environment 3 of 4, at step 5" in find_nonfinite(rollout, env, [slice(0, 4)])[0]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("field", FIELDS)
def test_what_the_environment_gives_is_traced_to_environment_agent_and_step(field: str, bad: float):
    class Spoils(Chaos):
        clock = 0

        def step(self, action: Any) -> Any:
            step, self.clock = super().step(action), self.clock + 1
            if self.clock == 4:
                x = getattr(step, field).clone()
                x[(2, 1) if "state" not in field else (2,)] = bad
                everyone = torch.ones_like(step.active)
                step = replace(step, **{field: x, "active": everyone, "next_active": everyone})
            return step

    env, config = Spoils(4), learner()[1]
    agent = MAPPO(env.spec, config)
    # What a step shows is stored with the next one.
    t, whose = 4 if field in ("obs", "state") else 3, "" if "state" in field else f" of {env.spec.agents[1]}"
    message = rf"^the environment's {field}{whose} is {bad}, in environment 2 of 4, at step {t} of the rollout"
    with pytest.raises(UserError, match=message):
        Collector(env, agent, 6, env.reset(0), torch.Generator()).collect()


class Spoiling(Game):
    """Gives a number that is not finite at one step of some episodes; of all of them from `always` on."""

    made = 0

    def __init__(self, field: str = "reward", rate: int = 3, bad: float = math.nan) -> None:
        super().__init__(horizon=5, masks=False)
        self.field, self.rate, self.bad = field, rate, bad

    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, *rest = super().step(actions)
        if self.episodes % self.rate == 0 and self.clock == 2:
            if self.field == "reward":
                rewards = {a: r * self.bad for a, r in rewards.items()}
            else:
                obs = {a: x * np.float32(self.bad) for a, x in obs.items()}
        return obs, rewards, *rest


def config(path: Path, memory: int = 0, count: int = 1, updates: int = 12, on: Any = "skip", length: int = 5) -> Config:
    return Config(
        env=EnvConfig(num_envs=3, workers=0),
        network=NetworkConfig((8,), obs_norm=True, memory_size=memory),
        ppo=PPOConfig(rollout_length=length, epochs=2),
        run=RunConfig(
            total_steps=3 * length * updates,
            seeds=count,
            eval_interval=10**9,
            eval_episodes=1,
            dir=str(path),
            progress="plain",
            on_nonfinite=on,
        ),
    )


@pytest.mark.parametrize(
    ("field", "memory", "count"), [("reward", 0, 1), ("obs", 4, 1), ("reward", 4, 2), ("obs", 0, 3)]
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_update_is_skipped_and_the_run_goes_on(
    field: str, memory: int, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = mappo.train(lambda: Spoiling(field), config(tmp_path / "run", memory, count))
    assert run.finished
    metrics, out = run.metrics, capsys.readouterr().out
    skipped = metrics["epochs"] == 0
    assert skipped.any()
    assert not skipped.all()
    for name in METRICS:
        if name != "skipped_steps":
            assert np.isnan(metrics[name][skipped]).all(), name
            assert np.isfinite(metrics[name][~skipped]).all(), name
    assert (np.diff(metrics["actor_lr"][: len(skipped) // count]) <= 0).all(), "the schedule goes on"
    assert 1 <= out.count("is skipped: the environment's") == min(skipped.sum(), MAX_SKIP_NOTES * count)
    for path in seed_paths(run.path, run.config):
        found = checkpoint.load(path)
        for x in (*found.model.values(), *found.trainer.values()):
            assert x.isfinite().all()
        assert found.state["updates"] == 12


def test_one_seed_that_skips_leaves_the_others_as_they_would_be():
    """And itself: weights, moments, statistics and random numbers stay, the schedule goes on."""
    env, config_ = learner(4)
    whole = replace(config_, ppo=replace(config_.ppo, minibatches=3, rollout_length=6, chunk_length=2))
    results: list[Any] = []
    for skip in ((), (False, True, False)):
        agents = [MAPPO(env.spec, whole, seed=k) for k in range(3)]
        both = MultiSeed(agents)
        games = Chaos(12)
        rollout = rolled(games, both, 3)
        both.update(rollout)
        rollout = rolled(games, both, 3)
        before = everything(agents[1])
        if skip:
            rollout.reward[:, 4:8] = math.nan
            rollout.obs[0, 5] = math.inf
        told = both.update(rollout, skip)
        results.append([everything(agent) for agent in agents])
        if skip:
            after = everything(agents[1])
            assert int(after.pop("updates")) == int(before.pop("updates")) + 1
            assert after.keys() == before.keys()
            assert not after.pop("critic_memory").any()
            assert before.pop("critic_memory").any()
            assert all(torch.equal(after[k], before[k]) for k in before)
            assert told["epochs"].tolist() == [2, 0, 2]
            assert told["skipped_steps"].tolist() == [0, 0, 0]
            assert told["approx_kl"].isnan().tolist() == [False, True, False]
    for k in (0, 2):
        assert all(torch.equal(results[0][k][n], results[1][k][n]) for n in results[0][k])


@pytest.mark.parametrize("memory", [0, 4])
def test_what_an_update_tells_is_known_before_the_first(memory: int):
    env, config_ = learner(memory)
    agent = MAPPO(env.spec, config_)
    skipped = agent.update(rolled(env, agent), [True])
    learned = agent.update(rolled(env, agent), [False])
    assert list(skipped) == list(learned)
    assert agent.updates == 2
    both = MultiSeed([MAPPO(env.spec, config_, seed=k) for k in range(2)])
    nothing, something = (both.update(rolled(Chaos(8), both, 2), [x, x]) for x in (True, False))
    assert {k: v.shape for k, v in nothing.items()} == {k: v.shape for k, v in something.items()}


def test_a_return_that_is_none_ends_with_its_episode():
    class Once(Chaos):
        clock = 0

        def step(self, action: Any) -> Any:
            step, self.clock = super().step(action), self.clock + 1
            return replace(step, reward=step.reward * math.nan) if self.clock == 1 else step

    env, config_ = Once(4), learner()[1]
    config_ = replace(config_, run=replace(config_.run, on_nonfinite="skip"))
    collector = Collector(env, MAPPO(env.spec, config_), 6, env.reset(0), torch.Generator())
    told = [collector.collect()[1] for _ in range(20)]
    returns = [x["return_sum"].item() for x in told if x["episodes"]]
    assert math.isnan(returns[0])
    assert len(returns) > 10
    assert all(map(math.isfinite, returns[5:]))


def test_what_is_not_finite_is_forgotten():
    env, config_ = learner(4)
    config_ = replace(config_, run=replace(config_.run, on_nonfinite="skip"))
    collector = Collector(env, MAPPO(env.spec, config_), 6, env.reset(0), torch.Generator())
    collector.collect()
    kept = cast(torch.Tensor, collector.memory)
    kept[1] = math.nan
    collector.rollout.reward[0, 1] = math.nan
    collector._check_finite()
    assert collector.nonfinite != [""]
    assert (kept[1] == 0).all()
    assert (kept[0] != 0).any(), "the others remember"


@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_environment_that_gives_nothing_else_ends_the_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"nothing was learned in .* 5 updates: the environment's reward.*is kept"):
        mappo.train(lambda: Spoiling(rate=1), config(tmp_path / "run"))


@pytest.mark.parametrize("on", ["auto", "stop"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_otherwise_the_run_stops_and_says_where(on: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"the environment's reward of left is nan, in environment 0 of 3, at step"):
        mappo.train(lambda: Spoiling(), config(tmp_path / "run", on=on))


class Breaks(MAPPO):
    """At its second and third update one number of the loss is none."""

    def loss(self, batch: Any, outputs: Any) -> Any:
        total, metrics = super().loss(batch, outputs)
        if self.updates in (1, 2):
            head = self.network.critic.head.weight
            total = total + (head * math.inf).sum() * 0
        return total, metrics


@pytest.mark.parametrize("on", ["auto", "stop", "skip"])
def test_a_gradient_is_skipped_and_traced_or_ends_the_run(on: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    settled = config(tmp_path / "run", updates=4, on=on)
    told = r"2 gradient steps were not finite, and are skipped: the gradient of critic\.head\.weight is not finite"
    if on == "stop":
        with pytest.raises(UserError, match=rf"{told}, and the run stops.*The run is kept in"):
            mappo.train(lambda: Game(masks=False), settled, learner=Breaks)
        assert checkpoint.load(tmp_path / "run").state["updates"] == 2
    else:
        run = mappo.train(lambda: Game(masks=False), settled, learner=Breaks)
        assert run.metrics["skipped_steps"].tolist() == [0, 2, 2, 0]
        assert " ".join(capsys.readouterr().out.split()).count("the gradient of critic.head.weight is not finite") == 1


@pytest.mark.parametrize("memory", [0, 4])
def test_a_trace_names_the_first_place(memory: int):
    env, config_ = learner(memory)
    agent = MAPPO(env.spec, config_)
    rollout = rolled(env, agent)
    assert trace_nonfinite(agent, rollout) == ""
    kept = {n: p.detach().clone() for n, p in agent.network.named_parameters()}
    with torch.no_grad():
        agent.network.actor.head.weight.fill_(1e38)
        agent.network.actor.head.bias.fill_(3e38)
    assert trace_nonfinite(agent, rollout) == "the output of layer actor.head is not finite"
    with torch.no_grad():
        for name, weight in agent.network.named_parameters():
            weight.copy_(kept[name])
    rollout.reward[2, 1] = math.nan
    assert trace_nonfinite(agent, rollout) == "the returns of the rollout are not all finite"


def test_a_policy_that_moves_far_is_told_once():
    watch = SeedDiagnostics(Config())
    near, far = {"approx_kl": 0.02}, {"approx_kl": 3.0}
    assert [watch.advise(x) != "" for x in [far, far, near, far, far, far, far, near, far, far, far]] == [
        *[False] * 5,
        True,
        *[False] * 5,
    ]
    watch = SeedDiagnostics(Config())
    *_, told = [watch.advise(far) for _ in range(FAR)]
    for option in ("--ppo.actor-lr", "--ppo.epochs", "--ppo.target-kl"):
        assert option in told
    assert watch.advise({"approx_kl": math.nan}) == ""

"""`train(env, config)`: from an environment and settings to a run directory."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mappo import envs
from mappo.algorithms.critic_input import CriticInputFunction
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.backend.matmul import use_library
from mappo.backend.process_group import joined
from mappo.backend.process_settings import EnvSettings
from mappo.backend.ranks import Ranks
from mappo.config import Config
from mappo.core.protocols import Environment
from mappo.core.seeding import derive_seed
from mappo.core.spec import Spec
from mappo.errors import StopTraining, UserError
from mappo.evaluation.dealt import Deal
from mappo.runs.logger import Update
from mappo.runs.names import runs_folder, seed_paths
from mappo.runs.trackers.processes import TrackerProcesses
from mappo.system.launched import Place, find_place
from mappo.system.shutdown import Interrupts, close_all
from mappo.training.device import check_gpus, choose_device, torch_settings
from mappo.training.evaluator import Evaluator
from mappo.training.learner import with_learner
from mappo.training.opening import RunFolder
from mappo.training.run import Run
from mappo.training.seed_run import SeedRun
from mappo.training.session import Session
from mappo.training.shares import Callback, own_config, share_of


def train(
    env: str | Callable[[], Any] | Any,
    config: Config | Mapping[str, Any] | None = None,
    *,
    callback: Callback | None = None,
    stop: Callable[[], None] | None = None,
    resume: bool = False,
    critic_input: CriticInputFunction | None = None,
    learner: type[MAPPO] | None = None,
) -> Run:
    """Train a team, and save everything in a run directory.

    Args:
        env: a name, such as `spread`, `lbf/Foraging-8x8-2p-2f-coop-v3` or `module:function`; or a callable that makes
            one environment, called once for each copy (in worker processes, see `env.workers`); or a callable that
            takes `num_envs` and makes a batched `Environment`; or a batched `Environment`. A single environment trains
            too, alone, with a warning.
        config: by default the environment's preset (`mappo.preset`). A dict changes some of its settings:
            `{"ppo.epochs": 10, "run.seed": 2}`, or nested by section, `{"ppo": {"epochs": 10}}`.
        callback: called after each update with its metrics, for several seeds (`run.seeds`) with their mean; may raise
            `StopTraining`, then the run is saved and returned.
        stop: called after each update and at each step of an evaluation, because evaluations may be long; may raise
            `StopTraining` too.
        resume: go on with the run named in `config.run`, from its last checkpoint.
        critic_input: input of the critic, `f(obs, state, active)` of tensors `(*B, A, *obs_shape)`, `(*B, *S)` or
            None, and `(*B, A)`; returns features `(*B, F)` for the team, or `(*B, A, F)`. Observations and states of
            integers come divided by the bounds of their spaces.
        learner: a subclass of `MAPPO`, such as with a loss of your own; see docs/extending.md. By default
            `ppo.learner` names it. A class in a module is recorded there, so that the command line finds it again.

    Returns:
        The run, complete or stopped.

    Raises:
        UserError: the environment, the settings or the run directory are invalid; the message names the way out.
    """
    interrupts = stop if isinstance(stop, Interrupts) else Interrupts(stop)
    return _train(env, config, callback, interrupts, resume, critic_input, learner)


def _train(
    env: Any,
    config: Config | Mapping[str, Any] | None,
    callback: Callback | None,
    interrupts: Interrupts,
    resume: bool,
    critic_input: CriticInputFunction | None,
    learner: type[MAPPO] | None,
) -> Run:
    """Train with interruptions in place of the plain callable `stop`, see `train`."""
    name = env if isinstance(env, str) else envs.name_of(env)
    config, learner = with_learner(_checked_config(name, config, critic_input), learner)
    start_folder = Path.cwd()  # an environment may change it
    interrupts.set_time_limit(config.run.time_limit)
    place = find_place()
    device = choose_device(config.run.device)
    with ExitStack() as stack:
        stack.enter_context(torch_settings(config, device, place))
        joint = place if config.run.seeds == 1 else Place()  # seeds are trained apart
        ranks = stack.enter_context(joined(joint, device.type == "cuda", config.run.lost_after))
        whole = config
        config = own_config(config, place)
        run_folder = RunFolder(name, whole, config, ranks, place.rank == 0, runs_folder(whole), resume)
        saved = run_folder.find()
        make_envs = partial(envs.for_training, env, share_of(config, ranks, place), device, saved, ranks.size)
        training_env, eval_env = _make_envs(make_envs, env, stack, interrupts)
        _check_envs(name, training_env, config, place)
        num_envs = ranks.size * training_env.num_envs // config.run.seeds
        config = replace(config, env=replace(config.env, num_envs=num_envs))  # an environment object has its own number
        spec = training_env.spec if saved is None else _trained_spec(training_env.spec, saved)
        check = interrupts.check if ranks.size == 1 else lambda: None  # processes stop together, after an update
        make = partial(learner, spec, config, training_env.device, critic_input=critic_input, ranks=ranks, check=check)
        learners = _make_agents(make, config, ranks)
        path, own_paths, is_resumed = run_folder.open(num_envs, training_env.spec, learners, stack)
        seed_runs = list(map(SeedRun, own_paths, config.run.all_seeds, learners))
        evaluator = _make_evaluator(env, eval_env, config, interrupts, ranks)
        session = Session(path, name, config, seed_runs, training_env, evaluator, interrupts, seed_paths(path, whole))
        stack.callback(session.close)
        trackers = TrackerProcesses(() if ranks.rank else config.run.track, path, own_paths, start_folder)
        session.notes += run_folder.notes
        _run_session(session, callback, is_resumed, trackers)
        return Run(path, name, replace(whole, env=config.env), session.step, allow_code=True)


def _make_evaluator(
    env: Any, eval_env: Environment | None, config: Config, interrupts: Interrupts, ranks: Ranks
) -> Evaluator | None:
    """Return the evaluator of a session; `env` is as given to `train`."""
    if eval_env is None:
        return None
    deal = Deal(ranks, envs.num_envs_for(env, config.run.most_eval_episodes))
    return Evaluator(eval_env, config.run, interrupts, deal)


def _make_envs(
    make: Callable[[], tuple[Environment, Environment | None]], env: Any, stack: ExitStack, interrupts: Interrupts
) -> tuple[Environment, Environment | None]:
    """Make the environments of training and evaluation from `env`; the stack closes them at its end."""
    with interrupts.waiting(), EnvSettings():
        new_envs = make()
    if isinstance(env, str) or callable(env):  # an environment object belongs to the caller
        for env_to_close in new_envs:
            stack.callback(close_all, env_to_close, limit=interrupts.close_limit)
    return new_envs


def _run_session(session: Session, callback: Callback | None, resume: bool, trackers: TrackerProcesses) -> None:
    """Start or resume a session, train until its end or until `StopTraining`, and draw its curve."""
    if resume:
        session.resume()
    else:
        session.start()

    def end_update(update: Update) -> None:
        trackers.check()
        if callback is not None:
            callback(update)

    with trackers:
        _train_to_end(session, end_update)
        session.finish()


def _train_to_end(session: Session, callback: Callback) -> None:
    """Train until the end of a session or until `StopTraining`, which saves it."""
    began = session.step
    try:
        with use_library(session.seed_runs[0].library):
            session.loop(callback)
    except StopTraining:
        session.save()
        if session.interrupts.is_time_over and session.step == began:
            warnings.warn(
                f"run.time-limit {session.config.run.time_limit:g} min ended before a single update was done, and a "
                f"resume begins that update again: raise run.time-limit",
                stacklevel=6,
            )


def _check_envs(name: str, env: Environment, config: Config, place: Place) -> None:
    """Raise a UserError if the environment is on another device than asked for, or has removed the current folder."""
    if config.run.device == "cuda" and env.device.type == "cpu":
        raise UserError(f"run.device cuda: {name} is stepped on the CPU, and trains there: use cpu or auto")
    if env.device.type == "cuda":
        check_gpus(place)
    try:  # torch asks for the current folder as it loads its last modules
        Path.cwd()
    except FileNotFoundError:
        raise UserError(
            "the environment has removed the current folder as it was made: let it stay, or start from another folder"
        ) from None


def _checked_config(
    name: str, config: Config | Mapping[str, Any] | None, critic_input: CriticInputFunction | None
) -> Config:
    """Return the settings of the run, by default the environment's preset."""
    if isinstance(config, Mapping):
        config = Config.from_dict(config, envs.preset(name))
    elif config is not None and not isinstance(config, Config):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(
            f'config must be a mappo.Config, or a dict such as {{"ppo.epochs": 10}}; got {type(config).__name__}'
        )
    config = envs.preset(name) if config is None else config
    if critic_input is not None and config.network.critic_input == "auto":
        # Recorded in config.json: the run cannot resume without the function.
        config = replace(config, network=replace(config.network, critic_input="user"))
    return config


def _trained_spec(spec: Spec, saved: Spec) -> Spec:
    """Return the spec of a resumed run: its networks read observations and states as they always did.

    Args:
        spec: the environment's; if it does not fit, `open_run` or the checkpoint says so.
        saved: the run's.
    """
    if saved.mismatch(spec) or saved.state_shape != spec.state_shape:
        return spec
    fields = {name: getattr(saved, name) for name in ("groups", "obs_parts", "state_parts", "late_rewards")}
    return replace(spec, **fields)


def _make_agents(make: Callable[..., MAPPO], config: Config, ranks: Ranks) -> list[MAPPO]:
    """Return a learner for each seed; `make` takes the `seed`.

    Raises:
        UserError: the encoder cannot be computed for several seeds at once, or a loss of the user by several processes.
    """
    agents = [make(seed=derive_seed(seed, 0)) for seed in config.run.all_seeds]
    first = agents[0]
    if ranks.size > 1 and first.is_own_loss and not first.loss_adds_up:
        name = type(first).__name__
        raise UserError(
            f"the loss of {name} may not add up over {ranks.size} processes: take all of its means by batch.mean or "
            f"batch.value_mean and set {name}.loss_adds_up = True, or use run.processes 1"
        )
    if ranks.rank:  # minibatches of its own; the weights are those of the first process
        first.generator.manual_seed(derive_seed(config.run.seed, 0, 0, ranks.rank))
    if len(agents) > 1:
        MultiSeed(agents).check_encoder()
    return agents

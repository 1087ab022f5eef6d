"""Every setting: a name, a type, a default and one line of meaning. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mappo.config.bounds import (
    above,
    at_least,
    at_most,
    check_types,
    nearest_divisor,
    option_name,
    parse_option,
    within,
)
from mappo.errors import UserError


@dataclass(frozen=True)
class EnvOptions:
    """Options for making and stepping environments; they travel whole from `make` to the worker pool.

    Args:
        num_agents: number of agents; None for the environment's default.
        options: keyword arguments of the environment.
        time_limit: steps after which an episode is truncated; None for no limit.
        workers: processes that step Python environments; 0: this process; None: one for each core.
        restart: replace a worker that dies or hangs; the default is an error.
        worker_timeout: seconds that a worker may take for one step of its environments.
    """

    num_agents: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    time_limit: int | None = None
    workers: int | None = 0
    restart: bool = False
    worker_timeout: float = 60.0


@dataclass(frozen=True)
class EnvConfig:
    """The environment."""

    num_envs: int = 128
    """Environments stepped side by side (E)."""
    num_agents: int | None = None
    """Agents, where the environment lets one choose; its own number by default."""
    reward: Literal["team", "agent"] = "team"
    """`team`: one reward, the sum over agents; `agent`: each agent's own, with a critic row for each."""
    options: tuple[str, ...] = ()
    """The environment's own, as NAME=VALUE, such as local_ratio=0 max_cycles=50."""
    time_limit: int | None = None
    """Steps after which an episode is cut off (truncated), and after which its end counts as that; for Python ones."""
    workers: int | None = None
    """Processes that step Python environments; 0: none, all in this one; by default one for each core."""
    restart: bool = False
    """Replace a worker that dies or hangs; its episodes are cut off. By default the run is saved and stops."""
    worker_timeout: float = 60.0
    """Seconds that a worker may take for one step of its environments before it counts as hanging."""

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """`options` by name; a value is read as JSON where it can be, else as text."""
        return dict(parse_option(text) for text in self.options)

    @property
    def env_options(self) -> EnvOptions:
        """Return the options for making and stepping the environments, as `mappo.envs` takes them."""
        return EnvOptions(
            self.num_agents, self.env_kwargs, self.time_limit, self.workers, self.restart, self.worker_timeout
        )

    def __post_init__(self) -> None:
        check_types("env", self)
        if len({parse_option(text)[0] for text in self.options}) < len(self.options):
            raise UserError(f"env.options gives one option twice: {' '.join(self.options)}")
        if self.time_limit is not None:
            at_least("env.time-limit", self.time_limit, 1)
        if self.workers is not None:
            at_least("env.workers", self.workers, 0)
            at_most("env.workers", self.workers, 4096)
        above("env.worker-timeout", self.worker_timeout, 0)
        at_least("env.num-envs", self.num_envs, 1)
        at_most("env.num-envs", self.num_envs, 10_000_000)
        if self.num_agents is not None:
            at_least("env.num-agents", self.num_agents, 1)
            at_most("env.num-agents", self.num_agents, 10_000)


@dataclass(frozen=True)
class NetworkConfig:
    """Actor and critic, separate networks of the same size."""

    hidden: tuple[int, ...] = (64, 64)
    """Width of each hidden layer."""
    activation: Literal["relu", "tanh"] = "relu"
    """Behind each hidden layer."""
    layer_norm: bool = False
    """LayerNorm on the input and behind each activation, as in the MAPPO paper."""
    actor_gain: float = 0.01
    """Scale of the actor's last layer at the start; small means a nearly uniform policy."""
    critic_input: Literal["auto", "env", "joint", "agent", "own", "user"] = "auto"
    """The `env`'s state; `joint` observations; `agent`: both and an id; `own` (IPPO); `user`: a function, see `train`.
    `auto` is `env` where there is a state, else `joint`; `agent` for agent rewards."""
    death_mask: bool = False
    """Critic rows of dead agents read zeros and their id alone (arXiv:2103.01955, "death masking")."""
    sharing: Literal["group", "all", "none"] = "group"
    """Agents with the same parameters: a `group` has the same spaces; `all`; `none` (a network for each)."""
    agent_id: bool | None = None
    """The actor reads a one-hot id too; by default where agents with different spaces share parameters."""
    memory_size: int = 0
    """Width of a GRU behind the hidden layers of actor and critic (arXiv:1406.1078); 0: no memory."""
    encoder: str = "auto"
    """`mlp`; `cnn`, for images; or one that was added by `mappo.register_encoder`; `auto` looks at the shape."""
    obs_norm: bool = False
    """Observations normalised by their running mean and standard deviation; for vectors."""
    action_bounds: Literal["clip", "tanh"] = "clip"
    """How a Gaussian action keeps the bounds of its space: cut off at them, or squashed by tanh."""
    action_std: Literal["free", "state"] = "free"
    """Its standard deviation: a parameter, or an output of the network."""
    initial_std: float = 0.5
    """That at the start; 1 is half the width of the bounds."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Of the layers' arithmetic; weights, losses and statistics stay float32. `bf16` is faster on processors that have
    it, and rounds to 3 digits; `tf32` is for CUDA alone."""

    def __post_init__(self) -> None:
        check_types("network", self)
        at_least("network.memory-size", self.memory_size, 0)
        at_most("network.memory-size", self.memory_size, 65_536)
        above("network.initial-std", self.initial_std, 0)
        if not self.hidden:
            raise UserError("network.hidden needs at least one layer, such as 64 64")
        at_most("the number of layers of network.hidden", len(self.hidden), 100)
        for width in self.hidden:
            at_least("network.hidden", width, 1)
            at_most("network.hidden", width, 65_536)
        above("network.actor-gain", self.actor_gain, 0)


@dataclass(frozen=True)
class PPOConfig:
    """The learning algorithm. Letters are those of the MAPPO paper, arXiv:2103.01955."""

    rollout_length: int = 25
    """Steps of each environment between two updates (T)."""
    epochs: int = 10
    """Passes over each rollout."""
    minibatches: int = 1
    """Parts that each pass is cut into, at random; must divide rollout-length x num-envs."""
    minibatch_by: Literal["sample", "sequence"] = "sample"
    """What is dealt out to minibatches: single steps, or chunks of them; with a memory always chunks."""
    chunk_length: int | None = None
    """Steps of a chunk, through which gradients flow back (L); must divide rollout-length; by default at most 10."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """GAE: 0 trusts the critic, 1 the rewards."""
    returns: Literal["gae", "n_step", "discounted"] = "gae"
    """Advantages and targets: arXiv:1506.02438; n rewards, then the value; or all rewards of the rollout."""
    n_step: int = 5
    """Rewards of an n-step return."""
    recompute_advantages: bool = False
    """Values and advantages anew before each epoch, by the critic as it is then (arXiv:2006.05990)."""
    clip_ratio: float = 0.2
    """PPO's epsilon."""
    dual_clip: float | None = None
    """Bound on the loss of bad actions, above 1 (arXiv:1912.09729); none by default."""
    value_clip: float | None = None
    """Epsilon of the clipped value loss, in normalised units; 0.2 in the paper; none by default."""
    target_kl: float | None = None
    """No further epoch once the mean KL of one is above this; none by default."""
    huber_delta: float | None = None
    """Where the value loss turns from square to linear; 10 in the paper; none by default."""
    value_norm: bool = True
    """The critic learns returns normalised by their running mean and standard deviation."""
    value_norm_decay: float = 0.99
    """Weight of the past in those statistics, for each rollout."""
    popart: bool = False
    """The critic's last layer is rescaled when they move, so that its values stay (arXiv:1602.07714)."""
    advantage_norm: bool = True
    """Advantages of mean 0 and standard deviation 1 over each rollout."""
    value_weight: float = 1.0
    """Weight of the value loss."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus at the start."""
    entropy_final: float = 1.0
    """What is left of it at the end of the run, as a factor; the way there is a straight line."""
    actor_lr: float = 7e-4
    """Learning rate of the actor at the start."""
    critic_lr: float = 7e-4
    """Learning rate of the critic at the start."""
    lr_final: float = 1.0
    """What is left of both at the end of the run, as a factor; the way there is a straight line."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay (arXiv:1711.05101); 0 is Adam."""
    max_grad_norm: float | None = 10.0
    """Gradients of the actor and of the critic are each scaled down to this norm."""

    def __post_init__(self) -> None:
        check_types("ppo", self)
        for name in ("rollout_length", "epochs", "minibatches", "n_step"):
            at_least(option_name("ppo", name), getattr(self, name), 1)
        for name in ("gamma", "gae_lambda", "value_norm_decay", "lr_final", "entropy_final"):
            within(option_name("ppo", name), getattr(self, name), 0, 1)
        for name in ("clip_ratio", "value_clip", "huber_delta", "actor_lr", "critic_lr", "adam_eps"):
            above(option_name("ppo", name), getattr(self, name), 0)
        if self.value_norm_decay == 1:
            raise UserError("ppo.value-norm-decay must be below 1: with 1 the statistics would never move")
        above("ppo.max-grad-norm", self.max_grad_norm, 0)
        above("ppo.dual-clip", self.dual_clip, 1)
        above("ppo.target-kl", self.target_kl, 0)
        if self.chunk_length is not None and (self.chunk_length < 1 or self.rollout_length % self.chunk_length):
            raise UserError(
                f"ppo.chunk-length {self.chunk_length} does not divide ppo.rollout-length {self.rollout_length}; "
                f"nearest that does: {nearest_divisor(self.rollout_length, max(self.chunk_length, 1))}"
            )
        if self.popart and not self.value_norm:
            raise UserError("ppo.popart rescales the critic when the value statistics move: it needs ppo.value-norm")
        for name in ("value_weight", "entropy_weight", "weight_decay"):
            at_least(option_name("ppo", name), getattr(self, name), 0)


@dataclass(frozen=True)
class RunConfig:
    """The run: how long, where, and what is kept."""

    total_steps: int = 2_000_000
    """Environment steps, all agents acting once, summed over environments; rounded up to whole rollouts."""
    seed: int = 1
    """Everything random derives from it."""
    seeds: int = 1
    """Runs side by side, of this seed and the ones behind it, each in its own directory seed-N."""
    name: str | None = None
    """The run's directory is runs/NAME; by default the environment's name and the next free number."""
    dir: str | None = None
    """The run's directory, in place of runs/NAME."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes cuda where there is one, for environments that live there (the batched ones)."""
    graphs: bool = True
    """On CUDA: rollouts and updates are launched as a whole; not for code of yours that waits for it, or counts."""
    threads: int = 1
    """CPU threads of the learner; 2 are 1.3 to 1.7 times as fast on two free cores, and far slower on shared ones."""
    eval_interval: int = 100_000
    """Steps between two greedy evaluations, each followed by a checkpoint; the last two and the best are kept."""
    keep_every: int | None = None
    """The first checkpoint behind each multiple of so many steps is kept too; none by default."""
    eval_episodes: int = 256
    """Episodes of each evaluation during training."""
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    """What is shown: `auto` is live on a terminal, else plain lines."""
    time_limit: float | None = None
    """Minutes of training after which the run is saved and left; counted anew each time it goes on. A run that is
    complete by then is scored, one that is late is not."""
    on_nonfinite: Literal["auto", "stop", "skip"] = "auto"
    """Of NaN or infinity: `stop` the run, or `skip` the update (of a gradient: its step); `auto` stops where the
    environment gave it, and skips where a gradient came to it."""

    @property
    def all_seeds(self) -> range:
        """Those of the runs side by side."""
        return range(self.seed, self.seed + self.seeds)

    def __post_init__(self) -> None:
        check_types("run", self)
        for name in ("total_steps", "seeds", "threads", "eval_interval", "eval_episodes"):
            at_least(option_name("run", name), getattr(self, name), 1)
        if self.keep_every is not None:
            at_least("run.keep-every", self.keep_every, 1)
        at_most("run.threads", self.threads, 1024)
        at_most("run.seeds", self.seeds, 100)  # each holds open files
        at_most("run.eval-episodes", self.eval_episodes, 1_000_000)
        at_least("run.seed", self.seed, 0)
        above("run.time-limit", self.time_limit, 0)
        if self.all_seeds.stop > 2**63:
            raise UserError(f"run.seed {self.seed} and {self.seeds} run.seeds go beyond 2^63")
        if self.name is not None and self.dir is not None:
            raise UserError("run.name and run.dir exclude each other: give one")
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise UserError(f"run.name must be a plain directory name, got {self.name!r}; see run.dir")

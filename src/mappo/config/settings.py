"""Settings of environment, network and algorithm: name, type with bounds, default, and meaning. Imports no torch.

`mappo train ENV --help` shows the text below each field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from mappo.config.bounds import above, at_least, at_most, between, check_types, nearest_divisor, parse_option
from mappo.errors import UserError


@dataclass(frozen=True)
class EnvOptions:
    """Options for making and stepping environments, from `make` to the worker pool.

    Args:
        num_agents: number of agents; None for the environment's default.
        options: keyword arguments of the environment.
        time_limit: steps until an episode is truncated; None for no limit.
        workers: number of worker processes for Python environments. 0: no worker, this process steps them. None: a
            worker for each core.
        restart: True to replace a dead or hanging worker; by default it is an error.
        worker_timeout: seconds for a worker's step of all its environments; after them the worker hangs.
        agents: names of the agents in the order of a run; an environment with the same names takes this order.
        late_rewards: rewards of agents outside `env.agents` count for the team; False: they are left out.
    """

    num_agents: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    time_limit: int | None = None
    workers: int | None = 0
    restart: bool = False
    worker_timeout: float = 60.0
    agents: tuple[str, ...] = ()
    late_rewards: bool = True


@dataclass(frozen=True)
class EnvConfig:
    """The environment."""

    num_envs: Annotated[int, at_least(1), at_most(10_000_000)] = 128
    """Number of environments stepped in parallel (E)."""
    num_agents: Annotated[int | None, at_least(1), at_most(10_000)] = None
    """Number of agents, where the environment has a choice; by default the environment's own number."""
    reward: Literal["team", "agent"] = "team"
    """`team`: a single reward, the sum over agents; `agent`: each agent's own reward, with its own critic row."""
    options: tuple[str, ...] = ()
    """Options of the environment itself, as NAME=VALUE, such as local_ratio=0 max_cycles=50."""
    time_limit: Annotated[int | None, at_least(1)] = None
    """Maximum steps of an episode, for Python environments; an episode ended by the limit counts as truncated."""
    workers: Annotated[int | None, at_least(0), at_most(4096)] = None
    """Number of worker processes for Python environments; 0: this process alone; by default one for each core."""
    restart: bool = False
    """Replace a dead or hanging worker; its episodes are cut off. By default the run is saved and stops."""
    worker_timeout: Annotated[float, above(0)] = 60.0
    """Maximum seconds of a worker for a step of its environments; a slower worker counts as hanging."""

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Values of `options` by name. A value is JSON if it parses, else text."""
        return dict(parse_option(text) for text in self.options)

    @property
    def env_options(self) -> EnvOptions:
        """Return the options for making and stepping the environments, as `mappo.envs` takes them."""
        return EnvOptions(
            self.num_agents, self.env_kwargs, self.time_limit, self.workers, self.restart, self.worker_timeout
        )

    def __post_init__(self) -> None:
        check_types("env", self)
        if len(self.env_kwargs) < len(self.options):
            raise UserError(f"env.options gives one option twice: {' '.join(self.options)}")


@dataclass(frozen=True)
class NetworkConfig:
    """Actor and critic, separate networks of the same size."""

    hidden: tuple[Annotated[int, at_least(1), at_most(65_536)], ...] = (64, 64)
    """Width of each hidden layer."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation after each hidden layer."""
    layer_norm: bool = False
    """LayerNorm on the input and after each activation, as in the MAPPO paper."""
    actor_gain: Annotated[float, above(0)] = 0.01
    """Initial scale of the actor's last layer; a small scale means a nearly uniform policy."""
    critic_input: Literal["auto", "env", "joint", "agent", "own", "user"] = "auto"
    """`env`: the environment's state; `joint`: all observations; `agent`: the state (else all observations),
    the agent's own observation and its id; `own`: the own observation (IPPO); `user`: a function, see `mappo.train`.
    `auto`: `env` if the environment has a state, else `joint`; `agent` with --env.reward agent."""
    death_mask: bool = False
    """Critic rows of dead agents hold zeros and the agent's id alone (arXiv:2103.01955, "death masking")."""
    sharing: Literal["group", "all", "none"] = "group"
    """Agents that share parameters: `group`: agents with equal spaces; `all`: all agents; `none`: no agents."""
    agent_id: bool | None = None
    """Add a one-hot agent id to the actor's input; by default only if agents with different spaces share parameters."""
    memory_size: Annotated[int, at_least(0), at_most(65_536)] = 0
    """Width of a GRU after the hidden layers of actor and critic (arXiv:1406.1078); 0: no memory."""
    encoder: str = "auto"
    """Network from an observation to features: `mlp`; `cnn`, for images; `module:function`, your own; or a name of
    `mappo.register_encoder`. `auto`: a CNN for images, an MLP for numbers."""
    channels: Literal["auto", "first", "last"] = "auto"
    """Axis of the channels in an image: the first or the last.
    `auto`: the two neighbouring axes of most similar sizes are height and width, the third holds the channels."""
    obs_norm: bool = False
    """Normalise observations by their running mean and standard deviation; images are left as they are."""
    action_bounds: Literal["clip", "tanh"] = "clip"
    """Method to keep a Gaussian action within its bounds: clip the action, or squash it by tanh."""
    action_std: Literal["free", "state"] = "free"
    """Standard deviation of a Gaussian action: `free`: a parameter; `state`: an output of the network."""
    initial_std: Annotated[float, above(0)] = 0.5
    """Initial standard deviation; 1 is half the width of the bounds."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Arithmetic of the layers; weights, losses and statistics stay float32.
    `bf16` is faster on processors with bf16 units and rounds to 3 digits; `tf32` needs CUDA."""

    def __post_init__(self) -> None:
        check_types("network", self)
        if not self.hidden:
            raise UserError("network.hidden needs at least one layer, such as 64 64")
        if len(self.hidden) > 100:
            raise UserError(f"the number of layers of network.hidden must be at most 100, got {len(self.hidden):,}")


@dataclass(frozen=True)
class PPOConfig:
    """The learning algorithm. Letters follow the MAPPO paper, arXiv:2103.01955."""

    rollout_length: Annotated[int, at_least(1)] = 25
    """Steps of each environment between two updates (T)."""
    epochs: Annotated[int, at_least(1)] = 10
    """Passes over each rollout."""
    minibatches: Annotated[int, at_least(1)] = 1
    """Number of random minibatches in each pass; must divide rollout-length x num-envs.
    With chunks the number must divide rollout-length / chunk-length x num-envs."""
    minibatch_by: Literal["sample", "sequence"] = "sample"
    """Unit of a minibatch: a single step, or a chunk of consecutive steps; with a memory always chunks."""
    chunk_length: int | None = None
    """Steps of a chunk, the range of backpropagation through time (L).
    Must divide rollout-length; by default the largest divisor up to 10."""
    gamma: Annotated[float, between(0, 1)] = 0.99
    """Discount factor, from 0 to 1."""
    gae_lambda: Annotated[float, between(0, 1)] = 0.95
    """Lambda of GAE, from 0 to 1: 0 trusts the critic, 1 the rewards."""
    returns: Literal["gae", "n_step", "discounted"] = "gae"
    """Advantages and targets: `gae` (arXiv:1506.02438);
    `n_step`: n rewards, then the value; `discounted`: all rewards of the rollout."""
    n_step: Annotated[int, at_least(1)] = 5
    """Number of rewards in an n-step return."""
    recompute_advantages: bool = False
    """Recompute values and advantages before each epoch, with the current critic (arXiv:2006.05990)."""
    clip_ratio: Annotated[float, above(0)] = 0.2
    """PPO's epsilon: the probability ratio is clipped to 1 - epsilon and 1 + epsilon."""
    dual_clip: Annotated[float | None, above(1)] = None
    """Bound on the loss of bad actions, above 1 (arXiv:1912.09729); none by default."""
    value_clip: Annotated[float | None, above(0)] = None
    """Epsilon of the clipped value loss, in normalised units; 0.2 in the paper; none by default."""
    target_kl: Annotated[float | None, above(0)] = None
    """Stop the epochs of an update after the first epoch with a mean KL above this; none by default."""
    huber_delta: Annotated[float | None, above(0)] = None
    """Error size where the value loss turns from square to linear; 10 in the paper; none by default."""
    value_norm: bool = True
    """Train the critic on returns normalised by their running mean and standard deviation."""
    value_norm_decay: Annotated[float, between(0, 1)] = 0.99
    """Weight of earlier rollouts in the running return statistics; below 1."""
    popart: bool = False
    """Rescale the critic's last layer with the return statistics, to keep values the same (arXiv:1602.07714)."""
    advantage_norm: bool = True
    """Normalise advantages to mean 0 and standard deviation 1 over each rollout."""
    value_weight: Annotated[float, at_least(0)] = 1.0
    """Weight of the value loss."""
    entropy_weight: Annotated[float, at_least(0)] = 0.01
    """Initial weight of the entropy bonus."""
    entropy_final: Annotated[float, between(0, 1)] = 1.0
    """Final entropy weight as a fraction of the first, from 0 to 1; annealed linearly."""
    actor_lr: Annotated[float, above(0)] = 7e-4
    """Initial learning rate of the actor."""
    critic_lr: Annotated[float, above(0)] = 7e-4
    """Initial learning rate of the critic."""
    lr_final: Annotated[float, between(0, 1)] = 1.0
    """Final learning rates as a fraction of the first, from 0 to 1; annealed linearly."""
    adam_eps: Annotated[float, above(0)] = 1e-5
    """Adam's epsilon."""
    weight_decay: Annotated[float, at_least(0)] = 0.0
    """AdamW's decoupled weight decay (arXiv:1711.05101); 0 is Adam."""
    max_grad_norm: Annotated[float | None, above(0)] = 10.0
    """Maximum gradient norm, for the actor and for the critic; larger gradients are scaled down."""
    learner: str = "mappo"
    """Learner: `mappo`, or `module:Class`, a subclass of `mappo.MAPPO` with a loss of your own."""

    def __post_init__(self) -> None:
        check_types("ppo", self)
        if self.value_norm_decay == 1:
            raise UserError("ppo.value-norm-decay must be below 1: with 1 the statistics would never move")
        if self.chunk_length is not None and (self.chunk_length < 1 or self.rollout_length % self.chunk_length):
            raise UserError(
                f"ppo.chunk-length {self.chunk_length} does not divide ppo.rollout-length {self.rollout_length}; "
                f"nearest that does: {nearest_divisor(self.rollout_length, max(self.chunk_length, 1))}"
            )
        if self.popart and not self.value_norm:
            raise UserError("ppo.popart rescales the critic when the value statistics move: it needs ppo.value-norm")

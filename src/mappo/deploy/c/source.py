"""Writing of an `AgentPolicy` as `policy.h` and `policy.c`: C99, no dependencies, no allocation."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

import torch

from mappo.core.obs_inputs import ObsInput
from mappo.deploy.agent_policy import AgentPolicy
from mappo.deploy.c.draft import Array, Draft
from mappo.deploy.c.interface import C_TYPES, field_names
from mappo.deploy.c.layers import dense, encode, recur
from mappo.deploy.c.reading import read_observation
from mappo.deploy.c.text import comment_text, functions_text, plain_text
from mappo.errors import UserError

LARGEST_CHOICE = 2**31 - 1  # of int32_t


@torch.no_grad()
def c_files(policy: AgentPolicy, about: Sequence[str] = ()) -> dict[str, str]:
    """Return the text of each file by its name.

    Args:
        policy: the agent's.
        about: lines for the comment at the head of both files: agent, run, checkpoint.

    Raises:
        UserError: the policy has a layer of the user's own, a number that is no number, or choices beyond 32 bits.
    """
    draft = Draft()
    features = encode(draft, policy.encoder, read_observation(draft, policy.reader))
    if policy.gru is not None:
        memory = Array("policy->memory", (policy.memory_size,))
        draft.calls.append("if (is_first) {")
        draft.call("    fill", memory.place, memory.size, 0.0)
        draft.calls.append("}")
        features = recur(draft, policy.gru, policy.memory_norm, features, memory)
    _write_head(draft, policy, features)
    _write_action(draft, policy)
    body = "\n".join(f"    {line}" for line in draft.calls)
    table = ["", "Layers:", *draft.layers]
    source = {
        "about": comment_text([*about, *table]),
        "tables": "\n".join(draft.tables),
        "functions": functions_text(body),
        "calls": body,
    }
    return {"policy.h": _fill("template.h", _header(policy, draft, about)), "policy.c": _fill("template.c", source)}


def _fill(template: str, values: dict[str, str]) -> str:
    return Template(Path(__file__).with_name(template).read_text()).substitute(values)


def _write_head(draft: Draft, policy: AgentPolicy, x: Array) -> None:
    """Write the last layer: logits, means and log standard deviations."""
    outputs = Array("policy->outputs", (policy.head.out_features,))
    dense(draft, policy.head, x, outputs)
    if policy.fixed_log_std is not None and policy.heads.continuous:
        table = draft.table("LOG_STD", policy.fixed_log_std)
        draft.call("read_floats", table, policy.heads.continuous, outputs.at(outputs.size))


def _write_action(draft: Draft, policy: AgentPolicy) -> None:
    """Write the choices and the numbers of the action."""
    heads = policy.heads
    sizes = heads.categorical
    outputs = Array("policy->outputs", ())
    noise = "noise"
    if sizes:
        start = heads.start or ()
        check_choices(start, sizes)
        tables = draft.table("SIZES", sizes, "int"), draft.table("START", start, "int32_t")
        draft.call("choose", outputs.place, "mask", noise, len(sizes), *tables, "action->choice")
        noise = f"noise == NULL ? NULL : noise + {len(sizes)}"
    if count := heads.continuous:
        mean = sum(sizes)
        draft.call("set_numbers", outputs.at(mean), outputs.at(mean + count), noise, count, "action->number")
        if policy.distribution.is_squashed:
            draft.call("squash", "action->number", count)
        names = ("center", "half_width", "low", "high")
        tables = [draft.table(name.upper(), getattr(policy.distribution, name)) for name in names]
        draft.call("to_bounds", "action->number", count, *tables)


def check_choices(start: Sequence[int], sizes: Sequence[int]) -> None:
    """Raise UserError for choices that 32 bits cannot hold."""
    if any(k < -LARGEST_CHOICE or k + n - 1 > LARGEST_CHOICE for k, n in zip(start, sizes, strict=True)):
        raise UserError(f"choices that start at {tuple(start)} do not fit the int32_t of a C file: use --to onnx")


def _header(policy: AgentPolicy, draft: Draft, about: Sequence[str]) -> dict[str, str]:
    """Return the values of `template.h`."""
    heads = policy.heads
    num_choices = len(heads.categorical)
    mask_size = sum(heads.categorical)
    output_size = mask_size + 2 * heads.continuous
    names = field_names([x.name for x in policy.reader.inputs])
    observation = [_input_text(x, name) for x, name in zip(policy.reader.inputs, names, strict=True)]
    action = [f"int32_t choice[{num_choices}];"] * bool(num_choices)
    action += [f"float number[{heads.continuous}];"] * bool(heads.continuous)
    memory = [f"float memory[{policy.memory_size}];"] * bool(policy.memory_size)
    work = [f"float {array.name}[{max(array.size, 1)}];" for array in draft.fields]
    sizes = {
        "choice_size": num_choices,
        "number_size": heads.continuous,
        "noise_size": heads.size,
        "mask_size": mask_size,
        "memory_size": policy.memory_size,
        "output_size": output_size,
    }
    fields = {
        "observation": observation,
        "action": action,
        "policy": [*memory, f"float outputs[{output_size}];", "/* Working memory of a step. */", *work],
    }
    texts = {name: "\n".join(f"    {line}" for line in lines) for name, lines in fields.items()}
    return {"about": comment_text(about), **texts, **{name: str(size) for name, size in sizes.items()}}


def _input_text(array: ObsInput, name: str) -> str:
    """Return the field of an array of the observation."""
    check_choices(array.start, array.choices)
    size = len(array.choices) if array.choices else array.size
    return f"{C_TYPES[array.dtype]} {name}[{max(size, 1)}]; /* {plain_text(_describe(array))} */"


def _describe(array: ObsInput) -> str:
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if array.choices:
        last = [start + count - 1 for start, count in zip(array.start, array.choices, strict=True)]
        pairs = ", ".join(f"{a} to {b}" for a, b in zip(array.start[:4], last[:4], strict=True))
        return f"{array.name}: {shape}, choices {pairs}{' ...' if len(last) > 4 else ''}"
    return f"{array.name}: {shape}"

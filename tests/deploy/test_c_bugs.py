"""Bugs planted in the text of `policy.c` are seen by the comparison that the other tests make."""

import re
from pathlib import Path

import pytest

from c_policies import build, differences, policy_of
from mappo.deploy.c.program import FLAGS, find_compiler
from mappo.deploy.c.source import c_files
from teams import own_inputs

pytestmark = pytest.mark.skipif(not find_compiler(), reason="needs a C compiler")

MUTANTS = {
    "normalisation left out": ("unequal-gru", r"\n    normalize\(.*", ""),
    "memory not reset": ("unequal-gru", r"        fill\(policy->memory, .*", ""),
    "memory read from the step before the gates": (
        "unequal-gru",
        r"dense\(policy->memory, 7",
        "dense(policy->input, 7",
    ),
    "layer norm left out": ("unequal-gru", r"\n    layer_norm\(policy->normed.*", ""),
    "gates swapped": (
        "unequal-gru",
        r"input_sums\[size \+ i\] \+ hidden_sums\[size \+ i\]",
        "input_sums[i] + hidden_sums[i]",
    ),
    "heads swapped": ("multidiscrete", r"SIZES\[2\] = \{\n    3, 4", "SIZES[2] = {\n    4, 3"),
    "start left out": ("discrete", r"choice\[h\] = start\[h\] \+ chosen", "choice[h] = chosen"),
    "mask left out": ("gru-masks", r"legal == NULL \|\| legal\[i\]\) && \(best", "1) && (best"),
    "mask of the first head for all": ("multibinary-masks", r"mask == NULL \? NULL : mask \+ sizes\[h\]", "mask"),
    "first of equals": ("discrete", r"logit\[i\] > logit\[best\]", "logit[i] < logit[best]"),
    "bounds left out": ("box-clip", r"\n    to_bounds\(.*", ""),
    "tanh left out": ("box-tanh", r"\n    squash\(action.*", ""),
    "deviation not exponential": ("box-clip", r"expf\(log_std\[i\]\)", "log_std[i]"),
    "quantile mirrored": ("box-clip", r"\? x : -x", "? -x : x"),
    "bytes not divided": ("images", r"\n    divide\(.*", ""),
    "channels last": ("images", r"channels_first\(policy->pixels, 72, 3", "channels_first(policy->pixels, 216, 1"),
    "padding left out": ("images", r"32, 3, 2, 1, policy", "32, 3, 2, 0, policy"),
    "start of a choice left out": ("dict-gru", r"choice == start \+ i \? 1.0f", "choice == i ? 1.0f"),
    "id left out": (
        "images-first-id",
        r"fill\(policy->image \+ 396, 99, 1.0f\)",
        "fill(policy->image + 396, 99, 0.0f)",
    ),
}


FAST = (
    "normalisation left out",
    "memory not reset",
    "heads swapped",
    "start left out",
    "mask left out",
    "bounds left out",
)


@pytest.mark.parametrize("mutant", [x if x in FAST else pytest.param(x, marks=pytest.mark.slow) for x in MUTANTS])
def test_a_planted_bug_is_seen(mutant: str, tmp_path: Path):
    kind, old, new = MUTANTS[mutant]
    policy = policy_of(kind)
    text = c_files(policy)["policy.c"]
    found = re.findall(old, text)
    assert len(set(found)) == 1, found
    program = build(policy, tmp_path, FLAGS, policy_c={found[0]: new})
    assert differences(policy, program, own_inputs(policy, 300, seed=1))


def test_the_weights_of_another_agent_are_seen(tmp_path: Path):
    policy = policy_of("discrete-masks", 0)
    other = build(policy_of("discrete-masks", 1), tmp_path, FLAGS)
    assert "numbers differ" in differences(policy, other, own_inputs(policy, 300, seed=1))

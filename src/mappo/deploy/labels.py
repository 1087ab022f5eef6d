"""Names and units of an agent's numbers, where its environment gives them in `metadata`. Loads no torch."""

from collections.abc import Mapping
from typing import Any, cast

from mappo.errors import UserError

Labels = Mapping[str, list[str]]


def read_labels(metadata: Mapping[str, Any], agent: str, num_obs: int, num_actions: int) -> Labels:
    """Return `observation_names`, `observation_units`, `action_names` and `action_units`, those that are given.

    Args:
        metadata: of the environment. Each entry is a list with a text for each flat number, or for each head of an
            action; or a dict of such lists by agent.
        agent: the agent's name.
        num_obs: count of numbers in its flat observation.
        num_actions: count of heads of its action.

    Raises:
        UserError: an entry is no list of texts, or has another length.
    """
    labels: dict[str, list[str]] = {}
    for subject, count in (("observation", num_obs), ("action", num_actions)):
        for key in (f"{subject}_names", f"{subject}_units"):
            entry = metadata.get(key)
            texts: Any = cast("Mapping[str, Any]", entry).get(agent) if isinstance(entry, Mapping) else entry
            if texts is None:
                continue
            if not _is_list_of_texts(texts) or len(texts) != count:
                raise UserError(
                    f'the environment\'s metadata["{key}"] must be a list of {count} texts for {agent}, one for each '
                    f"number of its {subject}, or a dict of such lists by agent"
                )
            labels[key] = list(texts)
    return labels


def _is_list_of_texts(x: Any) -> bool:
    return isinstance(x, list | tuple) and all(isinstance(text, str) for text in cast("list[Any]", x))

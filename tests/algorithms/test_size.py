"""The algorithm stays small: `algorithms/mappo.py` and all of mappo that it imports, but for some rooms."""

import ast

from paths import ROOT

SOURCE = ROOT / "src"
NOT_COUNTED = ("mappo.backend", "mappo.config", "mappo.system")
MOST = 2_765  # statements


def imported(module: str) -> dict[str, int]:
    """Statements of a module and of all modules that it imports, by name."""
    found: dict[str, int] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = SOURCE / f"{name.replace('.', '/')}.py"
        if name in found or not path.exists() or name.startswith(NOT_COUNTED):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name] = sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_the_algorithm_does_not_grow():
    found = imported("mappo.algorithms.mappo")
    assert "mappo.functional.losses" in found
    assert "mappo.networks.layers" in found
    total = sum(found.values())
    print(f"{total:,} statements in {len(found)} files")
    assert total <= MOST, f"{total:,} statements: {sorted(found.items(), key=lambda item: -item[1])}"

"""Draw docs/images/house.svg: the rooms of src/mappo on their floors, and the imports between them.

Floors come from pyproject.toml, purposes from the docstrings of the rooms, arrows from the code. Run by `make house`.
"""

import ast
import html
import textwrap
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/images/house.svg"
WIDTH, MARGIN, FLOOR = 900, 8, 86  # FLOOR: from the top of one floor to the top of the next
BOX_WIDTH, BOX_HEIGHT, LANE = 236, 60, 16  # LANE: the least distance between two lines, and from a line to a box
# Horizontal places that let few lines cross; a room without an entry stands in the middle.
CENTERS = {"algorithms": 150, "policies": 240, "networks": 240, "functional": 150, "backend": 350, "system": 480}
CENTERS |= {"evaluation": 560, "deploy": 460, "runs": 496, "rollouts": 766, "envs": 632, "core": 470, "config": 470}
ALGORITHM = {"functional", "networks", "policies", "algorithms", "rollouts"}  # tinted: the rooms to read first
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><style>
  text {{ font-family: -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; text-anchor: middle }}
  .name {{ font-size: 17px; font-weight: 600; fill: #16324f }} .purpose {{ font-size: 14px; fill: #44525f }}
  .floor {{ fill: #eef2f6 }} .room {{ fill: #ffffff; stroke: #7f93a8; stroke-width: 1.2 }}
  .algorithm {{ fill: #e1eefb; stroke: #3d7ab8 }} #head {{ fill: #7f93a8 }}
  .import {{ fill: none; stroke: #7f93a8; stroke-width: 1.5; marker-end: url(#head) }}
</style>
<marker id="head" refX="8" refY="4.5" markerWidth="9" markerHeight="9" orient="auto" markerUnits="userSpaceOnUse">
  <path d="M0 0L9 4.5L0 9z"/></marker><rect width="{width}" height="{height}" rx="10" fill="#fbfcfd"/>
{parts}</svg>
"""
Edge = tuple[str, str]  # a room, and a room that it imports


def read_floors() -> list[list[str]]:
    """Return the rooms of each floor, the highest floor first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["mappo"])
    floors = [[room for room in layer.split(" : ") if (ROOT / "src/mappo" / room).is_dir()] for layer in layers]
    return [floor for floor in floors if floor]


def read_purpose(room: str) -> list[str]:
    """Return the first paragraph of a room's docstring, wrapped to fit its box."""
    docstring = ast.get_docstring(ast.parse((ROOT / "src/mappo" / room / "__init__.py").read_text())) or ""
    return [html.escape(line) for line in textwrap.wrap(docstring.partition("\n\n")[0], 32)]


def find_imports(rooms: list[str]) -> list[Edge]:
    """Return the imports between rooms, without those that a chain of other imports implies."""
    graph = grimp.build_graph("mappo", exclude_type_checking_imports=True, cache_dir=None)
    for room in rooms:
        graph.squash_module(f"mappo.{room}")
    imported = {room: graph.find_modules_directly_imported_by(f"mappo.{room}") - {f"mappo.{room}"} for room in rooms}

    def is_implied(a: str, b: str) -> bool:
        return any(graph.chain_exists(c, f"mappo.{b}") for c in imported[a] - {f"mappo.{b}"})

    return [(a, b) for a in rooms for b in rooms if f"mappo.{b}" in imported[a] and not is_implied(a, b)]


def choose_lanes(edges: list[Edge], level: dict[str, int], center: dict[str, int]) -> dict[Edge, int]:
    """Return an x for each arrow past other floors, where a vertical line is clear of boxes and other arrows."""
    lanes: dict[Edge, int] = {}
    far = [(a, b) for a, b in edges if level[b] > level[a] + 1]
    for a, b in sorted(far, key=lambda edge: level[edge[1]] - level[edge[0]]):  # the shortest first
        closed = [(center[r], BOX_WIDTH // 2 + LANE) for r, floor in level.items() if level[a] < floor < level[b]]
        closed += [(x, LANE) for (c, d), x in lanes.items() if level[c] < level[b] and level[a] < level[d]]
        free = [x for x in range(LANE, WIDTH, 2) if all(abs(x - middle) >= reach for middle, reach in closed)]
        detour = {x: (abs(x - center[a]) + abs(x - center[b]), abs(x - center[a])) for x in free}
        lanes[a, b] = min(free or [WIDTH - LANE // 2], key=detour.get)
    return lanes


def place_ends(edges: list[Edge], lanes: dict[Edge, int], center: dict[str, int], end: int) -> dict[Edge, int]:
    """Return an x for one end of each arrow (0: at the importer, 1: at the imported), side by side along the box."""
    ends: dict[Edge, int] = {}
    for room, middle in center.items():
        own = sorted((e for e in edges if e[end] == room), key=lambda e: lanes.get(e, center[e[1 - end]]))
        ends |= {edge: middle + 18 * (2 * k + 1 - len(own)) for k, edge in enumerate(own)}
    return ends


def curve(x: int, y: int, next_x: int, next_y: int) -> str:
    """Return a path that leaves one point and reaches the next one straight down."""
    return f"C{x} {(y + next_y) // 2} {next_x} {(y + next_y) // 2 - 4} {next_x} {next_y}"


def draw() -> str:
    """Return the picture as SVG."""
    floors = read_floors()
    level = {room: number for number, floor in enumerate(floors) for room in floor}
    center = {room: CENTERS.get(room, WIDTH // 2) for room in level}
    top = [2 * MARGIN + 8 + FLOOR * number for number in range(len(floors))]
    band = f'x="{MARGIN}" width="{WIDTH - 2 * MARGIN}" height="{BOX_HEIGHT + 16}" rx="8"'
    parts = [f'<rect class="floor" y="{y - 8}" {band}/>' for y in top]
    edges = find_imports(list(level))
    lanes = choose_lanes(edges, level, center)
    starts, stops = place_ends(edges, lanes, center, 0), place_ends(edges, lanes, center, 1)
    for a, b in edges:
        x, y, next_y = starts[a, b], top[level[a]] + BOX_HEIGHT, top[level[a] + 1]
        path = f"M{x} {y}"
        if (a, b) in lanes:
            path += f"{curve(x, y, lanes[a, b], next_y)}V{top[level[b] - 1] + BOX_HEIGHT}"
            x, y, next_y = lanes[a, b], top[level[b] - 1] + BOX_HEIGHT, top[level[b]]
        path += curve(x, y, stops[a, b], next_y - 1)
        parts.append(f'<path class="import" d="{path}"/>')
    for room, number in level.items():
        x, y, purpose = center[room], top[number], read_purpose(room)
        box = f'x="{x - BOX_WIDTH // 2}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"'
        parts.append(f'<rect class="room{" algorithm" * (room in ALGORITHM)}" {box}/>')
        for k, line in enumerate([room, *purpose]):
            kind, line_y = "purpose" if k else "name", y + 37 - 8 * len(purpose) + 16 * k
            parts.append(f'<text class="{kind}" x="{x}" y="{line_y}">{line}</text>')
    return SVG.format(width=WIDTH, height=top[-1] + BOX_HEIGHT + 2 * MARGIN + 8, parts="\n".join(parts))


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")

"""Draw the pictures of the tutorial into docs/images, each for a light and for a dark page. Run by `make house`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from mappo import ppo_clip_loss

IMAGES = Path(__file__).resolve().parent / "images"
PALETTES = {
    "light": {"ink": "#1b2a3a", "soft": "#5b6b7b", "line": "#8fa1b3", "box": "#f3f6f9", "actor": "#dcebfb",
              "critic": "#fdebd3", "good": "#2a7f4f", "bad": "#b8492f", "edge": "#3d7ab8", "warm": "#c98218"},
    "dark": {"ink": "#e6edf3", "soft": "#a5b3c0", "line": "#6b7d8f", "box": "#1d252d", "actor": "#173552",
             "critic": "#4a3413", "good": "#63c08c", "bad": "#ec8a70", "edge": "#6aaef0", "warm": "#e9ad4e"},
}  # fmt: skip
FONT = "-apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


class Canvas:
    """Lines of an SVG picture.

    Args:
        width: of the picture.
        height: of the picture.
        colors: a palette.
    """

    def __init__(self, width: int, height: int, colors: dict[str, str]) -> None:
        self.colors = colors
        self._head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="{FONT}">'
        heads = [f'<marker id="{name}" refX="8" refY="4.5" markerWidth="9" markerHeight="9" orient="auto" '
                 f'markerUnits="userSpaceOnUse"><path d="M0 0L9 4.5L0 9z" fill="{colors[name]}"/></marker>'
                 for name in ("line", "edge", "warm", "bad", "good")]  # fmt: skip
        self._lines = ["<defs>", *heads, "</defs>"]

    def box(self, x: float, y: float, width: float, height: float, fill: str, stroke: str, *text: str) -> None:
        """Draw a box around lines of text; the first line is bold."""
        c = self.colors
        self._lines.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{c[fill]}" '
                           f'stroke="{c[stroke]}" stroke-width="1.4"/>')  # fmt: skip
        top = y + height / 2 - 9 * (len(text) - 1)
        for k, line in enumerate(text):
            self.text(x + width / 2, top + 18 * k + 5, line, "ink" if k == 0 else "soft", bold=k == 0)

    def text(self, x: float, y: float, text: str, color: str = "soft", anchor: str = "middle", bold: bool = False,
             size: int = 14) -> None:  # fmt: skip
        """Write a line of text."""
        weight = ' font-weight="600"' if bold else ""
        self._lines.append(f'<text x="{x}" y="{y}" fill="{self.colors[color]}" font-size="{size}" '
                           f'text-anchor="{anchor}"{weight}>{text}</text>')  # fmt: skip

    def path(self, d: str, color: str = "line", head: bool = True, dashed: bool = False, width: float = 1.6) -> None:
        """Draw a line, with an arrow head by default."""
        more = f' marker-end="url(#{color})"' if head else ""
        more += ' stroke-dasharray="5 4"' if dashed else ""
        self._lines.append(f'<path d="{d}" fill="none" stroke="{self.colors[color]}" stroke-width="{width}"{more}/>')

    def svg(self) -> str:
        """Return the picture."""
        return "\n".join([self._head, *self._lines, "</svg>", ""])


def ctde(colors: dict[str, str]) -> str:
    """Draw actors on own observations, and a critic on the state, in training alone."""
    c = Canvas(720, 330, colors)
    c.text(20, 26, "execution: each agent alone", "soft", "start", size=15)
    for k in range(3):
        x = 20 + 160 * k
        name = ("1", "2", "A")[k]
        c.box(x, 250, 130, 46, "box", "line", f"observation o{_sup(name)}")
        c.box(x, 148, 130, 58, "actor", "edge", "actor", "shared weights")
        c.path(f"M{x + 65} 250V212", "edge")
        c.text(x + 65, 62, f"action a{_sup(name)}", "ink", bold=True)
        c.path(f"M{x + 65} 148V76", "edge")
    c.path("M505 40V316", "line", head=False, dashed=True)
    c.text(700, 26, "training only", "soft", "end", size=15)
    c.box(545, 250, 150, 46, "box", "line", "state s of all")
    c.box(545, 148, 150, 58, "critic", "warm", "critic", "sees everything")
    c.path("M620 250V212", "warm")
    c.text(620, 62, "value V(s)", "ink", bold=True)
    c.path("M620 148V76", "warm")
    c.path("M556 72C520 100 500 120 478 144", "bad", dashed=True)
    c.text(548, 116, "advantage", "bad", "start", size=13)
    return c.svg()


def flags(colors: dict[str, str]) -> str:
    """Draw a recording with a termination and a cut."""
    c = Canvas(760, 236, colors)
    rewards = ["r₀", "r₁", "r₂", "r₃", "r₄", "r₅", "r₆"]
    xs = [60 + 96 * k for k in range(7)]
    bands = [(0, 2, "episode 1, ends by itself"), (3, 4, "episode 2, cut by its time limit"), (5, 6, "episode 3 ...")]
    for first, last, name in bands:
        x = xs[first] - 40
        c.box(x, 52, xs[last] + 40 - x, 62, "box", "line")
        c.text((xs[first] + xs[last]) / 2, 38, name, "soft", size=13)
    for x, reward in zip(xs, rewards, strict=True):
        c.text(x, 90, reward, "ink", bold=True, size=17)
    for k in (0, 1, 3, 5):
        c.path(f"M{xs[k + 1] - 12} 103C{xs[k + 1] - 30} 122 {xs[k] + 30} 122 {xs[k] + 12} 103", "edge")
    for k, color in ((2, "bad"), (4, "warm")):
        x = (xs[k] + xs[k + 1]) / 2
        c.path(f"M{x} 46V124", color, head=False, width=3)
    x = (xs[2] + xs[3]) / 2
    c.text(x, 150, "done", "bad", bold=True)
    c.text(x, 170, "next value: 0", "soft", size=13)
    c.text(x, 188, "nothing flows back", "soft", size=13)
    x = (xs[4] + xs[5]) / 2
    c.text(x, 150, "traj_flag", "warm", bold=True)
    c.text(x, 170, "next value: V of the state reached", "soft", size=13)
    c.text(x, 188, "nothing flows back", "soft", size=13)
    c.text(xs[0] - 40, 150, "the advantage flows", "edge", "start", size=13)
    c.text(xs[0] - 40, 168, "back within an episode", "edge", "start", size=13)
    c.text(380, 224, "time t", "soft", size=13)
    c.path("M410 220H470", "line")
    return c.svg()


def clip(colors: dict[str, str]) -> str:
    """Draw the clipped objective over the ratio, computed by the library's own function."""
    c = Canvas(720, 250, colors)
    ratios = torch.linspace(0.4, 1.6, 121)
    for left, adv, name in ((70, 1.0, "a good action, A &gt; 0"), (420, -1.0, "a bad action, A &lt; 0")):
        values = [-ppo_clip_loss(r.log().view(1), torch.zeros(1), torch.tensor([adv]))[0].item() for r in ratios]
        top = 1.6 if adv > 0 else -0.4
        points = [
            (left + (r.item() - 0.4) / 1.2 * 250, 46 + (top - v) * 120) for r, v in zip(ratios, values, strict=True)
        ]
        for ratio in (0.8, 1.0, 1.2):
            x = left + (ratio - 0.4) / 1.2 * 250
            c.path(f"M{x} 40V196", "line", head=False, dashed=ratio != 1.0, width=1)
            label = {0.8: "1 − ε", 1.0: "1", 1.2: "1 + ε"}[ratio]
            c.text(x, 214, label, "soft", size=13)
        c.path(f"M{left} 196H{left + 256}", "line")
        c.path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), "edge", head=False, width=3)
        c.text(left + 125, 28, name, "ink", bold=True)
        c.text(left + 125, 238, "ratio r", "soft", size=13)
    c.text(40, 120, "gain", "soft", size=13)
    c.text(318, 112, "no gradient", "soft", "end", size=12)
    c.text(424, 112, "no gradient", "soft", "start", size=12)
    return c.svg()


def update(colors: dict[str, str]) -> str:
    """Draw the data flow of an update."""
    c = Canvas(760, 318, colors)
    c.box(20, 20, 150, 64, "box", "line", "rollout", "T steps, E envs")
    c.box(230, 20, 150, 64, "critic", "warm", "critic", "V(sₜ), V(sₜ₊₁)")
    c.box(440, 20, 150, 64, "box", "line", "GAE", "advantages, returns")
    c.path("M170 52H224")
    c.path("M380 52H434")
    c.box(440, 128, 150, 64, "box", "line", "statistics", "of returns, advantages")
    c.path("M515 84V122")
    c.box(230, 128, 150, 64, "box", "line", "batch", "rows, or chunks")
    c.path("M440 160H386")
    c.path("M95 84V160H224")
    c.box(20, 236, 150, 64, "box", "line", "minibatches", "in random order")
    c.path("M305 192V214H95V230")
    c.box(230, 236, 150, 64, "actor", "edge", "loss", "policy, value, entropy")
    c.path("M170 268H224")
    c.box(440, 236, 150, 64, "box", "line", "gradient", "clipped, then Adam")
    c.path("M380 268H434")
    c.path("M515 300V312H95V304", "edge", head=True)
    c.text(610, 262, "for each", "soft", "start", size=13)
    c.text(610, 280, "minibatch, epoch", "soft", "start", size=13)
    c.text(610, 46, "once", "soft", "start", size=13)
    c.text(610, 64, "for an update", "soft", "start", size=13)
    return c.svg()


PICTURES: dict[str, Callable[[dict[str, str]], str]] = {"ctde": ctde, "flags": flags, "clip": clip, "update": update}


def _sup(name: str) -> str:
    return {"1": "¹", "2": "²", "A": "ᴬ"}[name]


def draw() -> Iterator[tuple[Path, str]]:
    """Yield the files and their contents."""
    for name, picture in PICTURES.items():
        for palette, colors in PALETTES.items():
            yield IMAGES / f"{name}-{palette}.svg", picture(colors)


if __name__ == "__main__":
    for path, svg in draw():
        path.write_text(svg, encoding="utf-8")

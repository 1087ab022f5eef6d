"""Check that code, messages and pages are written in plain words: `python docs/prose.py`. `make check` runs it.

Bounds, over src/mappo and all Markdown pages:
    relative words   what, who, that, which, one ... at most 1.5 in 100 words of docstrings, comments, messages or pages
    openings         docstrings and comments that begin with What, Who, Of, As, How ...: at most 2 %
    packed           assignments `a, b = x, y`: at most 8 in 1,000 lines of code
    names            none of the words in BANNED
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RELATIVE = {"what", "who", "whom", "whose", "which", "that", "whoever", "whatever", "those", "one"}
OBLIQUE = {"what", "who", "how", "whether", "where", "of", "as", "those", "whose", "which"}
BANNED = {
    "told",
    "own",
    "there",
    "given",
    "seen",
    "made",
    "kept",
    "left",
    "heard",
    "going",
    "spoilt",
    "one",
    "numbers",
    "answer",
}
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)")
MAX_RELATIVE = 1.5
MAX_OBLIQUE = 2.0
MAX_PACKED = 8.0


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Yield the docstrings of modules, classes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield text


def comments(source: str) -> Iterator[str]:
    """Yield the comments, but for those that speak to a checker."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.search(r"noqa|pyright|pragma|fmt:", token.string):
            yield token.string.lstrip("# ")


def messages(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of errors, warnings and prints, and the help texts behind the fields of dataclasses."""
    for node in ast.walk(tree):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if re.search(r"(Error|Stopped|warn|print|note)$", name):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value
        if isinstance(node, ast.ClassDef):
            for part in node.body[1:]:
                if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                    yield str(part.value.value)


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name that the code binds, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def relative_words(texts: list[str]) -> float:
    """Return the relative words in 100 words, without code spans and links."""
    words = [word.lower() for text in texts for word in re.findall(r"[A-Za-z]+", CODE.sub(" ", text))]
    return 100 * sum(word in RELATIVE for word in words) / max(1, len(words))


def main() -> int:
    """Print the figures; return 1 if any is beyond its bound."""
    prose: list[str] = []
    texts: list[str] = []
    banned: list[str] = []
    num_packed = num_lines = 0
    for path in sorted((ROOT / "src/mappo").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        prose += [*docstrings(tree), *comments(source)]
        texts += messages(tree)
        lines = [line.strip() for line in source.splitlines()]
        num_lines += sum(bool(line) and not line.startswith("#") for line in lines)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                num_packed += any(isinstance(target, ast.Tuple) for target in node.targets)
        banned += [f"{path.relative_to(ROOT)}:{line}: {name}" for line, name in names(tree) if name in BANNED]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
    openings = [words[0].lower() for text in prose if (words := re.findall(r"[A-Za-z]+", text))]
    figures = [
        ("relative words in 100 of docstrings and comments", relative_words(prose), MAX_RELATIVE),
        ("relative words in 100 of messages and help", relative_words(texts), MAX_RELATIVE),
        *(
            (
                f"relative words in 100 of {p.name}",
                relative_words([p.read_text("utf-8")]),
                MAX_RELATIVE,
            )
            for p in pages
        ),
        ("oblique openings in 100", 100 * sum(word in OBLIQUE for word in openings) / len(openings), MAX_OBLIQUE),
        ("packed assignments in 1,000 lines", 1000 * num_packed / num_lines, MAX_PACKED),
        ("banned names", len(banned), 0),
    ]
    for name, figure, bound in figures:
        print(f"{figure:6.1f}  at most {bound:3.1f}  {name}{'' if figure <= bound else '  <- beyond its bound'}")
    print(*banned[:20], sep="\n", end="\n" if banned else "")
    return int(any(figure > bound for _, figure, bound in figures))


if __name__ == "__main__":
    sys.exit(main())

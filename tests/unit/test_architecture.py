# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/architecture.md and the code: a room imports rooms to its left and what stands in the hall, never to its right."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

# As the table has them, from left to right; outdir and hold are the pipeline's.
ROOMS = [
    name for line in re.findall(r"^\| (`harness\..*)$", DOCUMENT, re.MULTILINE) for name in re.findall(r"^`harness\.(\w+)`", line)
]
HALL = set(re.findall(r"`(\w+)`", DOCUMENT[DOCUMENT.index("the hall (") : DOCUMENT.index("), never to its right")]))


def imported(path: Path) -> Iterator[str]:
    """The modules and rooms of the harness that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("harness."))


def place(name: str) -> int:
    """How far to the right; the hall is left of all rooms."""
    return -1 if name in HALL else ROOMS.index({"outdir": "pipeline", "hold": "pipeline"}.get(name, name))


def test_the_document_names_all_there_is() -> None:
    there = {path.stem for path in (ROOT / "harness").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__", "__main__", "outdir", "hold"} == HALL | set(ROOMS)


def test_imports_run_one_way() -> None:
    wrong = []
    for path in (ROOT / "harness").rglob("*.py"):
        room = path.relative_to(ROOT / "harness").parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        wrong += [
            f"{path.relative_to(ROOT)}: {name}" for name in imported(path) if name != "__version__" and place(name) > place(room)
        ]
    assert wrong == []

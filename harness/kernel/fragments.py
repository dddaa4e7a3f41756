# SPDX-License-Identifier: GPL-2.0-or-later
"""Config fragments: read, merged in order, and compared with what Kconfig made of them.

A line ``CONFIG_X=y`` is required.  One that ends in ``# optional`` may fail to stick, and ``# optional: ARCH ...`` makes it
so for those rows of the target table only, or for all of one kernel_arch.  One that ends in ``# page size: BYTES`` is for
rows with this page size alone.  One that ends in ``# if known`` is required where the tree has such an option, and nothing is
said where it has none.  ``CONFIG_X=n`` and ``# CONFIG_X is not set`` mean the same.

Lines ``guest: …`` and the like are no matter of the kernel's config: harness.guest.settings reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import paths, resources, textfile
from harness.errors import BuildError, UsageError, meant
from harness.targets import Target

_LINE = re.compile(r'CONFIG_(?P<name>\w+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\s"#]+)\s*(?:#\s*(?P<comment>.*?)\s*)?')
_UNSET = re.compile(r"# CONFIG_(?P<name>\w+) is not set\s*(?:#\s*(?P<comment>.*?)\s*)?")
SETTING = re.compile(r"(?P<key>[a-z_]+):\s*(?P<value>.*)")
_OPTIONAL = re.compile(r"optional(?::\s*(?P<targets>\S.*))?")
_PAGE_SIZE = re.compile(r"page size: (?P<bytes>[1-9][0-9]*)")


@dataclass(frozen=True)
class Option:
    """One line of a fragment.

    ``optional`` is None (required), empty (optional everywhere) or the targets it is so for; ``page_size`` is in bytes,
    0 for a line that holds whatever it is.
    """

    name: str
    value: str
    fragment: str
    line: int
    optional: frozenset[str] | None = None
    page_size: int = 0
    if_known: bool = False

    def is_optional(self, target: Target) -> bool:
        """Whether this target may go without."""
        return self.optional is not None and (not self.optional or bool(self.optional & {target.name, target.kernel_arch}))

    def __str__(self) -> str:
        return f"CONFIG_{self.name}={self.value}"


def find(name: str) -> Path:
    """A configuration by its name in kconfigs/, or by the path of a file.  UsageError when there is neither."""
    directory = resources.directory("kconfigs")
    if re.fullmatch(r"[\w-]+", name) and paths.is_file(built_in := directory / f"{name}.config"):
        return built_in
    if paths.is_file(path := Path(name)):
        return path.absolute()
    known = sorted(path.stem for path in directory.glob("*.config"))
    raise UsageError(
        f"there is no configuration {name!r}{meant(name, known)}: it is neither a file nor one of {', '.join(known)}"
    )


def included(files: Iterable[Path]) -> list[Path]:
    """These files, each after those that its lines ``with: NAME`` name, and each once.  UsageError where there is none."""
    found: dict[Path, None] = {}

    def take(path: Path, above: tuple[Path, ...]) -> None:
        if path in above:
            raise UsageError(f"{path}: includes itself, by way of {', '.join(str(p) for p in above)}")
        for line in read_text(path).splitlines():
            if (mark := SETTING.fullmatch(line.partition(" #")[0].strip())) and mark["key"] == "with":
                take(find(mark["value"]), (*above, path))
        found[path] = None

    for path in files:
        take(path, ())
    return list(found)


def read_text(path: Path) -> str:
    """A fragment's text.  UsageError when it cannot be read."""
    return textfile.read(path, "the config fragment")


def parse(text: str, fragment: str) -> list[Option]:
    """The options of a fragment.  UsageError names the line that is none."""
    options = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        found = _UNSET.fullmatch(line)
        if not found and (not line or line.startswith("#") or SETTING.match(line)):
            continue
        found = found or _LINE.fullmatch(line)
        if not found:
            raise UsageError(f"{fragment}:{number}: {line!r} is no config option; write CONFIG_NAME=value")
        optional, comment = None, found["comment"] or ""
        if mark := _OPTIONAL.fullmatch(comment):
            optional = frozenset((mark["targets"] or "").replace(",", " ").split())
        page_size = int(mark["bytes"]) if (mark := _PAGE_SIZE.fullmatch(comment)) else 0
        value = "n" if found.re is _UNSET else found["value"]
        options.append(Option(found["name"], value, fragment, number, optional, page_size, comment == "if known"))
    return options


def read(path: Path) -> list[Option]:
    """The options of a file.  UsageError when it cannot be read."""
    return parse(read_text(path), path.stem if path.suffix == ".config" else path.name)


def about(path: Path) -> str:
    """A file's first comment but for the licence, in one line: what it is for."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "SPDX" not in line:
            words.append(line[2:].strip())
        elif words:
            break
    return " ".join(words)


def merge(fragments: Iterable[Sequence[Option]]) -> list[Option]:
    """All options in order, each once.  UsageError when two lines want different values of one option."""
    merged: dict[str, Option] = {}
    for option in (option for fragment in fragments for option in fragment):
        first = merged.setdefault(option.name, option)
        if first.value != option.value:
            raise UsageError(
                f"CONFIG_{option.name}: {first.fragment}:{first.line} wants {first.value}, "
                f"but {option.fragment}:{option.line} wants {option.value}; take one of the two out"
            )
        if first.optional is not None and option.optional is None:
            merged[option.name] = option
    return list(merged.values())


def options_for(target: Target, files: Iterable[Path]) -> list[Option]:
    """What these fragments want of a target's kernel, each option once.  UsageError as of ``read`` and ``merge``."""
    return merge([o for o in read(path) if o.page_size in (0, target.page_size)] for path in files)


def allconfig(options: Iterable[Option]) -> str:
    """The merged options in the form that KCONFIG_ALLCONFIG reads."""
    return "".join(f"# CONFIG_{o.name} is not set\n" if o.value == "n" else f"{o}\n" for o in options)


def parse_dotconfig(text: str) -> dict[str, str]:
    """A .config's options without CONFIG_; what is not set is left out."""
    pairs = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name.removeprefix("CONFIG_"): value for name, _, value in pairs}


def symbols(kconfig: str) -> set[str]:
    """The symbols that a Kconfig file defines."""
    return set(re.findall(r"^\s*(?:menu)?config\s+(\w+)", kconfig, re.MULTILINE))


def known_symbols(tree: Path) -> set[str]:
    """The symbols of all the tree's Kconfig files, whatever the architecture."""
    found: set[str] = set()
    for path in tree.rglob("Kconfig*"):
        if path.is_file():
            found |= symbols(path.read_text(encoding="utf-8", errors="replace"))
    return found


def validate(options: Sequence[Option], dotconfig: str, target: Target, tree: Path) -> list[str]:
    """Warnings about options that did not stick.

    BuildError for required ones that this tree knows: Kconfig drops silently what a dependency forbids.
    """
    actual = parse_dotconfig(dotconfig)
    missed = [(o, actual.get(o.name, "n")) for o in options if actual.get(o.name, "n") != o.value]
    if not missed:
        return []
    known = known_symbols(tree)
    warnings, errors = [], []
    for option, became in missed:
        where = f"{option} ({option.fragment}:{option.line})"
        if option.name not in known and option.if_known:
            continue
        if option.name not in known:
            warnings.append(f"{where}: this tree has no such option")
        elif option.is_optional(target):
            warnings.append(f"{where}: did not stick, it became {became}; it is optional")
        else:
            errors.append(f"{where} did not stick: it became {became}")
    if errors:
        raise BuildError(f"{target.name}: {'; '.join(errors)}; a dependency in the tree's Kconfig forbids it")
    return warnings

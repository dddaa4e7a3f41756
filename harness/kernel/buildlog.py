# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a kbuild log: how far the build is, and what the first error says."""

from __future__ import annotations

import re

_STEP = re.compile(rb"^  (?:\[M\] )?(?:CC|AS|LD|AR|HOSTCC|HOSTLD|CC \[M\]|LDS|GEN|VDSO\w*|KSYMS|NM|OBJCOPY)\b", re.MULTILINE)

# Of all lines, the first that matches one of these wins.
_ERRORS = (
    re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: .*"),
    re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+): Error: .*"),
    re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+): (?:syntax error|can't open file|recursive inclusion).*"),
    re.compile(r"(?P<file>[^\s:(]+)(?:\([^)]*\))?:.*undefined reference to .*"),
    re.compile(r"(?:\S*-)?ld(?:\.\w+)?: (?!warning|NOTE|.*: in function ).*"),
    re.compile(r"ERROR: modpost: .*"),
    re.compile(r"(?:/bin/)?(?:ba|da)?sh: (?:line )?(?:\d+: )?\S+: (?:command )?not found"),
    re.compile(r"(?:[\w./-]+: )?(?:fatal )?error: .*", re.IGNORECASE),
    re.compile(r".*(?:No space left on device|Cannot allocate memory|internal compiler error).*"),
    re.compile(r"\S+:\d+: \*\*\* .*"),
    re.compile(r"\*\*\* .*"),
    re.compile(r"make(?:\[\d+\])?: \*\*\* No rule to make target .*"),
)
_LAST_RESORT = re.compile(r"(?:make(?:\[\d+\])?|.*): \*\*\* (?!Waiting).*")

_HINTS = (
    (re.compile(r"gelf\.h|libelf"), "sudo apt-get install libelf-dev"),
    (re.compile(r"openssl/"), "sudo apt-get install libssl-dev"),
    (re.compile(r"\b(flex|bison|bc|perl|python3|cpio|xz|zstd|lz4|lzop|pahole)\b.*not found"), "install it"),
    (re.compile(r"No space left"), "make room on the disk (ksm-harness store gc --max-size SIZE)"),
)


def steps(log: bytes) -> int:
    """How many compiler and linker runs the log tells of."""
    return sum(1 for _ in _STEP.finditer(log))


def _clean(line: str, src: str) -> str:
    """A path as the tree's developers write it."""
    for prefix in (f"{src}/", "../src/"):
        line = line.replace(prefix, "")
    return line.strip()


def first_error(log: str, src: str) -> str:
    """The first line that says what went wrong, with paths relative to the source ``src``, and a hint where one is known."""
    lines = log.splitlines()
    found = next((line for line in lines if any(pattern.fullmatch(line.strip()) for pattern in _ERRORS)), "")
    if not found:
        found = next((line for line in lines if _LAST_RESORT.fullmatch(line.strip())), "")
    if not found:
        found = next((line for line in reversed(lines) if line.strip()), "make printed nothing")
    hint = next((hint for pattern, hint in _HINTS if pattern.search(found)), "")
    return _clean(found, src)[:500] + (f" ({hint})" if hint else "")

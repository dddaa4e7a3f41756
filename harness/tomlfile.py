# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of TOML that users hand in."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from harness import textfile
from harness.errors import UsageError


def read(path: Path, what: str = "") -> dict[str, Any]:
    """The file's tables.  UsageError names the file, and ``what`` it is where it cannot be read at all."""
    text = textfile.read(path, what)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path}: {e}") from e

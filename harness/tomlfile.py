# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of TOML that users hand in."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from harness.errors import UsageError


def read(path: Path, what: str = "") -> dict[str, Any]:
    """The file's tables.  UsageError names the file, and ``what`` it is where it cannot be read at all."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read {what}{' ' if what else ''}{path}: {why}") from e
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path}: {e}") from e

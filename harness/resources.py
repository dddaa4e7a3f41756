# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kconfigs/, workloads/ and guest-images/ are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HostError


def directory(name: str) -> Path:
    """The directory ``name`` of the harness's own data."""
    package = Path(__file__).resolve().parent
    for path in (package / "_data" / name, package.parent / name):
        if path.is_dir():
            return path
    raise HostError(f"the harness's own directory {name}/ is not installed beside {package}; reinstall ksm-harness")

# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``ksm-harness``."""

from harness.cli.main import main

__all__ = ["main"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Room 1: where a kernel's source (or ready image) is, and what exactly it is."""

from harness.source.resolve import Source, check_spec, resolve
from harness.source.spec import Spec, parse_spec

__all__ = ["Source", "Spec", "check_spec", "parse_spec", "resolve"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""For all tests: a job that a shell has put in the background is deaf to SIGINT, and its children are; tests may be one."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)

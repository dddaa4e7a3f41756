# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m harness`` is ``ksm-harness``."""

import sys

from harness.cli import main

sys.exit(main())

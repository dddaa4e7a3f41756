# SPDX-License-Identifier: GPL-2.0-or-later
"""An executable model of KSM, rmap and swap that replays a journal and says where the kernel did otherwise.

Pure: no I/O, no clock.  The same code judges a living guest and a stored file.
"""

from harness.oracle.oracle import Oracle
from harness.oracle.records import JournalContradiction
from harness.oracle.semantics import Semantics, semantics_from_hello

__all__ = ["JournalContradiction", "Oracle", "Semantics", "semantics_from_hello"]

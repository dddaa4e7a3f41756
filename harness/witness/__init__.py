# SPDX-License-Identifier: GPL-2.0-or-later
"""A second witness: what lies in the kernel's own structures, read from outside while the guest is paused.

drgn is needed to learn from a vmlinux where things lie, and is imported only then.
"""

from harness.witness.attach import attach_script
from harness.witness.witness import KernelWitness, check

__all__ = ["KernelWitness", "attach_script", "check"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Room 2: from a source to a finished kernel in the store."""

from harness.kernel.build import build
from harness.kernel.contained import contained
from harness.kernel.kernel import Kernel
from harness.kernel.make import MakeError

__all__ = ["Kernel", "MakeError", "build", "contained"]

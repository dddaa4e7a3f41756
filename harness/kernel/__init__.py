# SPDX-License-Identifier: GPL-2.0-or-later
"""Room 2: from a source to a finished kernel in the store."""

from harness.kernel.build import build
from harness.kernel.kernel import Kernel
from harness.kernel.make import MakeError
from harness.kernel.reading import Reading, contained, read_source
from harness.kernel.toolchain import USUAL, Wanted, wanted

__all__ = ["USUAL", "Kernel", "MakeError", "Reading", "Wanted", "build", "contained", "read_source", "wanted"]

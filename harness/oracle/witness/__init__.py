# SPDX-License-Identifier: GPL-2.0-or-later
"""What a second witness saw in the kernel's memory (``harness.graph``), compared with the model and within itself.

Two questions are asked of each look, and each fault answers to one of them only.  ``census``: do the structures agree with
each other - is every reference that a refcount counts somebody's?  The others: are they the ones that the model has?
"""

from harness.oracle.witness.witness import Deed, Witness

__all__ = ["Deed", "Witness"]

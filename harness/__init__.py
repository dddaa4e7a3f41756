# SPDX-License-Identifier: GPL-2.0-or-later
"""Proves on real guests that a kernel still swaps out KSM pages which a fork has duplicated."""

__version__ = "0.1.0"

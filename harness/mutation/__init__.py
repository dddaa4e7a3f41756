# SPDX-License-Identifier: GPL-2.0-or-later
"""How good the judgement is: kernels broken on purpose are run, and those that pass are the gaps."""

# SPDX-License-Identifier: GPL-2.0-or-later
"""C source as the kernel writes it: tokens, functions, structures, statements.  Nothing is preprocessed."""

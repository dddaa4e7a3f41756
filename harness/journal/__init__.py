# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's format (docs/journal.md): reading it, and finding out whether it is whole.  Knows no guest."""

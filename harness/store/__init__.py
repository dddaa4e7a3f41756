# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: finished work under keys, shared by all checkouts of one user; what is in it, and keeping it small."""

from harness.store.base import USED, Store, default_root, exclusive, write_atomically
from harness.store.garbage import Entry, discard, entries, gc, keep_free, make_room, parse_size

__all__ = [
    "USED", "Entry", "Store", "default_root", "discard", "entries", "exclusive", "gc", "keep_free", "make_room",
    "parse_size", "write_atomically",
]  # fmt: skip

# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: finished work under keys, shared by all checkouts of one user; what is in it, and keeping it small."""

from harness.store.base import USED, Store, default_root, exclusive, write_atomically
from harness.store.contents import Entry, entries
from harness.store.garbage import Collected, discard, gc, keep_free, make_room
from harness.store.size import in_words, parse_size

__all__ = [
    "USED", "Collected", "Entry", "Store", "default_root", "discard", "entries", "exclusive", "gc", "in_words", "keep_free",
    "make_room", "parse_size", "write_atomically",
]  # fmt: skip

# SPDX-License-Identifier: GPL-2.0-or-later
"""Text from guests made fit to be shown: no control characters, no lone surrogates, not endless."""

from __future__ import annotations

import re

# What neither XML 1.0 allows (https://www.w3.org/TR/xml/#charsets) nor a terminal should be sent; tab and newline stay.
# U+202A..202E and U+2066..2069 reorder what surrounds them.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def fit(text: str, limit: int = 0) -> str:
    """``text`` with a replacement character for what cannot be shown, cut in its middle to ``limit`` characters (0: none)."""
    text = text.replace("\r\n", "\n")
    if limit and len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"
    return _UNFIT.sub("\ufffd", text)


def line(text: str, limit: int = 300) -> str:
    """The same on one line, cut at its end."""
    text = fit(" ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def seconds(value: float) -> str:
    """A duration as people write it: ``0.34 s``, ``12.1 s``, ``3:05``."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""The process's memory: what a crowd of clients took goes back when they have left."""

from __future__ import annotations

import ctypes


def give_back() -> bool:
    """Give the system back what the C library keeps of freed memory; takes a moment.

    Thousands of TLS connections leave holes between what is still in use, and glibc keeps such
    pages unless it is asked (``malloc_trim(3)``).

    :return: whether anything was given back; never where the C library cannot do it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))

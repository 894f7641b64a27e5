"""Keeping the stack that signal handlers run on, which OpenVINO (2026.4) takes and leaves dangling.

Compiling a model gives the calling thread a signal stack that lives as long as the model, and
freeing the model puts back what was there before. Of two models with overlapping lives the second
so puts back the freed stack of the first, and the next signal with a handler, be it Ctrl-C, ends
the process with a segmentation fault.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):  # stack_t of sigaltstack(2)
    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Puts back the calling thread's signal stack when the block ends; only Linux has to."""
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)

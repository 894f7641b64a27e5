"""Restoring the stack of signal handlers, which OpenVINO (2026.4) replaces with a freed stack.

When OpenVINO compiles a model, it gives the calling thread a signal stack that exists as long as
the model. When OpenVINO frees the model, it restores the signal stack from before the compilation.
If the first of two models is freed before the second, freeing the second model restores the freed
stack of the first model. The next signal with a handler, such as Ctrl-C, then ends the process with
a segmentation fault.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):  # stack_t of sigaltstack(2)
    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Restore the calling thread's signal stack when the block ends; other systems need nothing.

    OpenVINO replaces the signal stack on Linux only.
    """
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)

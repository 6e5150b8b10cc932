"""How numba kernels are compiled and launched, in every room that has some."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import numba as nb
from numba.core.caching import FunctionCache

# Everything "fast" except the assumption that no NaN or infinity occurs: the projection has to recognise
# overflow and cull it.
KEEP_NAN = {"nsz", "arcp", "contract", "afn", "reassoc"}

_COMPILE_NOTICE_AFTER = 2.0  # seconds; a cached kernel loads in less
_lock = threading.Lock()
_owner: int | None = None
_warm: set[str] = set()


Result = TypeVar("Result")


class _Cache(FunctionCache):
    """numba's cache, without which a kernel runs as well: a disk that has no room for the machine code stops
    nobody."""

    def save_overload(self, sig: object, data: object) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def kernel(
    *, parallel: bool = False, fastmath: bool | set[str] = True
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorator: compile with numba on first use and keep the machine code on disk where a folder can be
    written.

    numba looks for changes in a kernel's own file only: after changing a constant that a kernel imports from
    another file, delete `__pycache__`.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        options = {"parallel": parallel, "fastmath": fastmath, "nogil": True, "error_model": "numpy"}
        compiled = nb.njit(**options)(function)
        with contextlib.suppress(
            RuntimeError
        ):  # no folder can be written (read-only install): compile in each process
            compiled._cache = _Cache(function)  # pyright: ignore[reportAttributeAccessIssue]
        return compiled

    return decorate


@functools.cache
def _announce() -> None:
    """Print the notice, once per process though several stages compile."""
    print(
        "raf_lite: compiling the CPU rasteriser for this machine (about 20 s, once) ...",
        file=sys.stderr,
        flush=True,
    )


@contextlib.contextmanager
def launch(stage: str) -> Iterator[None]:
    """Hold the kernels for one stage ("forward", "backward"); the first, compiling launch of a stage says so
    if it takes long.

    One launch at a time, since numba's `workqueue` threads (the only ones on some systems) abort the process
    when two Python threads enter them. A forked child that inherited running kernel threads would hang or die
    inside numba, hence the RuntimeError.
    """
    global _owner
    if _owner not in (
        None,
        os.getpid(),
    ):  # asked before the lock, which may have been held at the moment of the fork
        raise RuntimeError(
            "rasterize() ran before this process was forked, and its CPU threads do not survive a fork; "
            "start workers with the 'spawn' method or rasterise in one process only"
        )
    with _lock:
        _owner = os.getpid()
        if stage in _warm:
            yield
            return
        notice = threading.Timer(_COMPILE_NOTICE_AFTER, _announce)
        notice.daemon = True
        notice.start()
        try:
            yield
            _warm.add(stage)
        finally:
            notice.cancel()

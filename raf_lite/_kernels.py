"""How numba kernels are compiled and launched, in every room that has some."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import numba as nb
import numpy as np
from numba.core.caching import FunctionCache
from numba.np import numpy_support

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
    nobody.

    What it lacks another process compiles (`serve`). A process that compiles for itself runs code with other
    last bits than those that load what it saved (its kernels call the functions that were compiled on the
    way, the saved ones their own copies of these), and a training of a thousand steps makes a visible
    difference of that.
    """

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        self._place = function.__module__, function.__qualname__

    def load_overload(self, sig: tuple, target_context: object) -> object:
        found = super().load_overload(sig, target_context)
        if found is None and _compiled_elsewhere(*self._place, sig):
            found = super().load_overload(sig, target_context)
        return found

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


# ------------------------------------------------------------------------------ a process that compiles

_SERVER = "RAF_LITE_COMPILES"  # set in its environment
_IDLE = 30.0  # seconds without a question, after which it ends
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline());"
    " from raf_lite._kernels import serve; serve()"
)
_asking = threading.Lock()
_server: subprocess.Popen[str] | None = None


def _compiled_elsewhere(module: str, name: str, sig: tuple) -> bool:
    """Have a kernel compiled and saved by another process. False where there is none to ask, or it did
    not."""
    global _server
    if _SERVER in os.environ or module == "__main__" or not sys.executable:
        return False
    with _asking:
        try:
            question = [module, name, [_spelled(kind) for kind in sig]]
            if _server is None or _server.poll() is not None:
                _server = subprocess.Popen(
                    [sys.executable, "-c", _START],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                    env=os.environ | {_SERVER: "1"},
                )
                _tell(_server, sys.path)
            _tell(_server, question)
            assert _server.stdout is not None
            return _server.stdout.readline() == "done\n"
        except (OSError, TypeError):  # no process can be started here, it has ended, or another kind of type
            return False
        except BaseException:  # an interrupt: its answer would be taken for that to the next question
            _forget()
            raise


def _forget() -> None:
    """Ask another process next time."""
    global _server
    if _server is not None:
        _server.kill()
        _server = None


def _tell(server: subprocess.Popen[str], what: object) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps(what) + "\n")
    server.stdin.flush()


def _spelled(kind: object) -> str | list:
    """A number's type or an array's in JSON; TypeError for another."""
    if isinstance(kind, nb.types.Array):
        return [_spelled(kind.dtype), kind.ndim, kind.layout, not kind.mutable, kind.aligned]
    if isinstance(kind, nb.types.Number | nb.types.Boolean):
        return str(numpy_support.as_dtype(kind))
    raise TypeError(f"{kind} is neither a number nor an array")


def _read(spelled: str | list) -> object:
    """What `_spelled` wrote."""
    if isinstance(spelled, str):
        return nb.from_dtype(np.dtype(spelled))
    dtype, ndim, layout, readonly, aligned = spelled
    return nb.types.Array(_read(dtype), ndim, layout, readonly=readonly, aligned=aligned)


def serve() -> None:
    """Compile kernels that are asked for on stdin, a line each, until nobody asks any more; answers with
    lines."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    while True:
        alone = threading.Timer(_IDLE, os._exit, (0,))
        alone.daemon = True
        alone.start()
        line = sys.stdin.readline()
        alone.cancel()
        if not line:
            return
        try:
            module, name, sig = json.loads(line)
            getattr(importlib.import_module(module), name).compile(tuple(map(_read, sig)))
            answers.write("done\n")
        except Exception:  # whoever asked compiles it, and tells what is wrong
            answers.write("failed\n")
        answers.flush()


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

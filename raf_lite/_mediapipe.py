"""MediaPipe's tasks, opened without its chatter and closed without its call home."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raf_lite._install import how_to_install

if TYPE_CHECKING:
    import numpy as np

# Newer versions of MediaPipe report their use to play.googleapis.com when they close, and have no switch for
# it. They ask the environment for a proxy, and on this port nobody listens.
_NOWHERE = "http://127.0.0.1:9"
_PROXIES = (
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
)


def open_task(
    model: Callable[[], Path], make: Callable[[Any, Any], Any]
) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """One of MediaPipe's tasks, and a function from a uint8 [H, W, 3] picture to MediaPipe's image type.

    model: gets the path of the model file, once MediaPipe is known to be here. make: from the module
    `mediapipe.tasks.python.vision` and the task's base options to the task. Raises ImportError where
    mediapipe or the system's EGL library is missing, and what `model` does.
    """
    missing = (
        f"MediaPipe cannot be loaded ({{}}); {how_to_install('encode')} and, on a bare Debian or Ubuntu, "
        "`apt-get install libegl1 libgles2`"
    )
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except (ImportError, OSError) as error:
        raise ImportError(missing.format(error)) from error
    options = BaseOptions(model_asset_path=os.fspath(model()))
    try:
        # MediaPipe loads its native library here, so a missing libEGL shows here and not at the import.
        with _quiet_stderr():
            task = make(vision, options)
    except OSError as error:
        raise ImportError(missing.format(error)) from error
    return task, lambda picture: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)


def closed_with(owner: object, task: Any) -> weakref.finalize:
    """What closes `task` when it is called, when `owner` is gone, or at exit, whichever comes first."""
    finalizer = weakref.finalize(owner, _close, task, os.getpid())
    # MediaPipe closes through a thread pool, which Python shuts down before it runs `atexit` hooks (and
    # finalizers); this hook, the one that concurrent.futures itself uses, runs before that.
    threading._register_atexit(finalizer)  # pyright: ignore[reportAttributeAccessIssue]
    return finalizer


def _close(task: Any, owner: int) -> None:
    """Close MediaPipe, with a proxy that leads nowhere for as long as that takes: its report of use is not
    sent. A forked child leaves its parent's task alone: it lacks the threads, and would wait for them."""
    if os.getpid() != owner:
        return
    kept = {name: os.environ.pop(name, None) for name in _PROXIES}
    os.environ["https_proxy"] = _NOWHERE
    try:
        task.close()
    finally:
        del os.environ["https_proxy"]
        os.environ.update({name: value for name, value in kept.items() if value is not None})


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Swallow what native code writes to file descriptor 2; MediaPipe's start-up lines obey no log level.

    If the body raises, the swallowed lines are attached to the exception, since they may tell why.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException as error:
            log.seek(0)
            error.add_note(log.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)

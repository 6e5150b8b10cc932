"""Ctrl-C and SIGTERM wait until what they stop is whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def held_back() -> Iterator[Callable[[], bool]]:
    """Hold SIGINT and SIGTERM back until the end of the block, and yield what says whether one came.

    The block is to look where its work is whole, and to end soon. Then comes what was held back:
    KeyboardInterrupt for SIGINT, SystemExit with status 143 for SIGTERM. A second signal of a kind is not
    held back, so that work that hangs can be stopped. Signals that were ignored stay so, and outside the main
    thread, where Python takes no handler, nothing changes.
    """
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt if came[0] == signal.SIGINT else SystemExit(128 + came[0])

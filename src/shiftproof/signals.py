"""Ctrl-C and SIGTERM: handlers that last for a block, and an event that asks long work to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signal_handler(
    handler: Callable[[int, FrameType | None], Any], numbers: Sequence[int] = SIGNALS
) -> Iterator[dict[int, Any]]:
    """Handle signals inside the block; the former handlers come back afterwards.

    Only the main thread may set handlers: in any other thread nothing changes.

    Args:
        handler: takes the number of the signal and the frame.
        numbers: of the signals.

    Yields:
        the former handlers, by number; empty outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    former: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, handler)
    try:
        yield former
    finally:
        for number, earlier in former.items():
            signal.signal(number, earlier)


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets; the former handler takes a second one."""
    event = threading.Event()
    former: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, former[number])

    with signal_handler(ask) as handlers:
        former.update(handlers)
        yield event

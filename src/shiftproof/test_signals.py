from __future__ import annotations

import os
import signal
import threading

import pytest

from shiftproof.signals import signal_handler, stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_acts_as_before(number):
    def earlier(number, frame):
        raise KeyboardInterrupt

    outside = signal.signal(number, earlier)
    try:
        with pytest.raises(KeyboardInterrupt), stop_requests() as stop:
            os.kill(os.getpid(), number)
            assert stop.wait(10)
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is earlier
    finally:
        signal.signal(number, outside)


def test_other_threads_set_no_handler():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work():
        with signal_handler(lambda number, frame: None) as former, stop_requests() as stop:
            found.append((former, stop.is_set(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [({}, False, before)]

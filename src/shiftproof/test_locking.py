from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from shiftproof.locking import file_lock

HOLD = """
import sys, time
from pathlib import Path
from shiftproof.locking import file_lock
with file_lock(Path(sys.argv[1])) as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_once_and_is_free_afterwards(tmp_path):
    with file_lock(tmp_path / "new" / "lock") as first, file_lock(tmp_path / "new" / "lock") as second:
        assert (first, second) == (True, False)
    with file_lock(tmp_path / "new" / "lock") as again:
        assert again


def test_a_lock_can_be_released_by_another_thread(tmp_path):
    lock = file_lock(tmp_path / "lock")
    assert lock.__enter__()
    thread = threading.Thread(target=lock.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    with file_lock(tmp_path / "lock") as again:
        assert again


def test_a_killed_process_releases_its_lock(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        with file_lock(path) as held:
            assert not held
        holder.kill()
        holder.wait()
    with file_lock(path, wait=True) as held:
        assert held


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), file_lock(tmp_path / "file" / "lock"):
        pass

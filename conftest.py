"""Settings of every test of the project, and a PostgreSQL for those that need one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: machines differ, and the first example often pays for an import. The same examples on every run, so that
# a test fails for a change of the code and for nothing else.
settings.register_profile("shiftproof", deadline=None, derandomize=True)
settings.load_profile("shiftproof")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Makes empty databases in a PostgreSQL of its own, and says their URLs; skipped where none is installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
    # PostgreSQL refuses to run as root; Debian's package made a user for it. The folder's name is short for its socket.
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="shiftproof-pg-", dir="/tmp"))
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"

    def call(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs[-1] / program), *arguments]
        subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=120)  # noqa: S603

    try:
        call("initdb", "-D", str(data), "-A", "trust", "-U", "shiftproof", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
        numbers = count()

        def make() -> str:
            name = f"station{next(numbers)}"
            call("createdb", "-h", str(folder), "-U", "shiftproof", name)
            return f"postgresql://shiftproof@/{name}?host={folder}"

        yield make
    finally:
        if (data / "postmaster.pid").exists():
            call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)

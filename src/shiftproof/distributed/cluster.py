"""Ray: a cluster that runs already, or one of this machine alone, and one line for whatever it refuses."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shiftproof.errors import BackendError, ShiftproofError, UsageError
from shiftproof.signals import signal_handler

RETRIES = 3  # times that a piece of work is begun again after its worker has died
STARTS = 2  # of Ray on this machine, before it is said that it cannot be
ANSWER = 5.0  # seconds that a cluster has to answer its address
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without GPUs of its own sees none
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what goes wrong is said here, on one line
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # of the lines that raylets print here: all
}
MEMORY = "fewer --workers, or more --cpus for each, leave more memory to each"
_STORE = 128 * 2**20  # bytes of shared memory for Ray on this machine: only names and counts pass through it


class WorkerError(ShiftproofError):
    """Work that its workers died of, again and again; what the others have finished stays."""


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and what each worker gets there."""

    address: str | None = None  # of a cluster that runs, "auto" or HOST:PORT; None starts one here and ends it
    workers: int | None = None  # at a time, at most; None: as many as there is room for
    cpus: int = 1  # processor threads for each
    gpus: float | None = None  # GPUs for each, 0.5 to share one; None: 1 where there are any

    def __post_init__(self) -> None:
        for name, value, least in (("workers", self.workers, 1), ("cpus", self.cpus, 1), ("gpus", self.gpus, 0)):
            if value is not None and value < least:
                raise UsageError(f"{name} {value} is too small: expected {least} or more")


@dataclass(frozen=True)
class Resources:
    """What there is room for."""

    workers: int  # at a time
    cpus: int  # processor threads for each
    gpus: float  # GPUs for each


@contextmanager
def connected(cluster: Cluster) -> Iterator[Resources]:
    """Ray, ready for work: the cluster at the address, or one started here and ended afterwards.

    A process that is connected already stays so. SIGTERM stops like Ctrl-C meanwhile.

    Raises:
        BackendError: Ray is not installed, does not start, or no cluster answers. UsageError: no node has room for one
            worker. KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise BackendError("--executor ray needs the package ray: pip install 'shiftproof[scale]'") from error
    if cluster.address is not None:
        _call(cluster.address)
    if ray.is_initialized():
        yield _available_resources(cluster, ray.nodes())
        return
    try:
        _start(ray, cluster)
        with signal_handler(signal.default_int_handler, [signal.SIGTERM]):  # raises KeyboardInterrupt
            yield _available_resources(cluster, ray.nodes())
    finally:
        ray.shutdown()


def _start(ray: Any, cluster: Cluster) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        options |= {
            "num_cpus": max(cores if cluster.workers is None else cluster.workers * cluster.cpus, cluster.cpus),
            "include_dashboard": False,
            "object_store_memory": _STORE,
            # Out of memory is not tried for ever, and workers are no less urgent than this process.
            "_system_config": {"task_oom_retries": RETRIES, "worker_niceness": 0},
        }
    for left in reversed(range(STARTS)):
        try:
            with _silenced_stderr():
                ray.init(cluster.address or "local", **options)  # "local": no address of the environment is meant
        except Exception as error:  # of no class of Ray's own
            ray.shutdown()  # on a busy machine one of its processes is late, and the others give up: once more
            if not left:
                line = (str(error).strip() or type(error).__name__).splitlines()[0]
                where = f"at {cluster.address} cannot be used" if cluster.address else "does not start on this machine"
                mend = "start it with the versions of this machine" if cluster.address else "use --executor local"
                raise BackendError(f"Ray {where} ({line}): {mend}") from error
        else:
            return


def _call(address: str) -> None:
    """Knock at an address: Ray itself would try for half a minute, and say much."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UsageError(f"address {address!r} is not understood: expected auto, or HOST:PORT such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise BackendError(
            f"no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}): start one with "
            "`ray start --head`, or leave --address out for one on this machine"
        ) from error


def _available_resources(cluster: Cluster, nodes: list[dict[str, Any]]) -> Resources:
    """What the nodes have room for.

    >>> nodes = [{"Alive": True, "Resources": {"CPU": 5.0, "GPU": 1.0}}, {"Alive": True, "Resources": {"CPU": 4.0}}]
    >>> _available_resources(Cluster(cpus=2, gpus=0), nodes)
    Resources(workers=4, cpus=2, gpus=0)
    >>> _available_resources(Cluster(cpus=2), nodes).workers  # there are GPUs: one for each
    1
    """
    there = [node["Resources"] for node in nodes if node.get("Alive", True)]
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1 if any(node.get("GPU") for node in there) else 0
    fits = 0
    for node in there:
        by_cpu = int(node.get("CPU", 0) // cluster.cpus)
        fits += min(by_cpu, int(node.get("GPU", 0) / gpus)) if gpus else by_cpu
    if not fits:
        most = ", ".join(
            f"{max((node.get(kind, 0) for node in there), default=0):g} {kind}s" for kind in ("CPU", "GPU")
        )
        raise UsageError(
            f"a worker with {cluster.cpus} CPUs and {gpus:g} GPUs fits on no machine of the cluster (the largest has {most}): "
            "lower --cpus or --gpus"
        )
    return Resources(min(fits, cluster.workers or fits), cluster.cpus, gpus)


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Nothing on standard error: there are lines that Ray's C++ would print whatever it is told."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def reason(error: BaseException) -> str:
    """Why a worker did not finish, on one line with the mend."""
    from ray import exceptions

    if isinstance(error, exceptions.OutOfMemoryError) or "OOM" in str(error):
        return f"out of memory: Ray has ended its worker {RETRIES + 1} times; {MEMORY}"
    if getattr(error, "actor_init_failed", False):  # the traceback's last line, without the class
        return str(error).strip().splitlines()[-1].partition(": ")[2]
    if isinstance(error, exceptions.WorkerCrashedError | exceptions.RayActorError | exceptions.NodeDiedError):
        return f"its worker died {RETRIES + 1} times, killed for its memory as a rule; {MEMORY}"
    cause = getattr(error, "cause", None) or error.__cause__
    if isinstance(cause, BaseException) and cause is not error:
        return reason(cause)
    line = " ".join(str(error).split()) if isinstance(error, ShiftproofError) else _first_line(error)
    if isinstance(error, ModuleNotFoundError):
        return f"a worker has not what this machine has ({line}): install the same versions on all machines"
    return line


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__

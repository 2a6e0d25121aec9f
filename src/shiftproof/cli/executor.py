"""Where many pieces of work run: this process, or Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftproof.errors import UsageError, unknown

if TYPE_CHECKING:
    from shiftproof.distributed.cluster import Cluster

EXECUTORS = ("local", "ray")


def choose_cluster(
    executor: str, address: str | None, workers: int | None, cpus: int | None, gpus: float | None
) -> Cluster | None:
    """The cluster that ``--executor ray`` and its options mean; None for the local executor, which takes none of them."""
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    options = {"--address": address, "--workers": workers, "--cpus": cpus, "--gpus": gpus}
    if executor == "local":
        if extra := [name for name, value in options.items() if value is not None]:
            raise UsageError(f"{extra[0]} says where Ray runs: give --executor ray as well")
        return None
    from shiftproof.distributed.cluster import Cluster

    return Cluster(address, workers, 1 if cpus is None else cpus, gpus)

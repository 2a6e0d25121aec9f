"""Where many pieces of work run: this process, or Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftproof.errors import UsageError, unknown

if TYPE_CHECKING:
    from shiftproof.distributed.cluster import Cluster

ENGINES = ("local", "ray")


def choose_cluster(
    engine: str, address: str | None, workers: int | None, cpus: int | None, gpus: float | None
) -> Cluster | None:
    """The cluster that ``--engine ray`` and its options mean; None for the local engine, which takes none of them."""
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    options = {"--address": address, "--workers": workers, "--cpus": cpus, "--gpus": gpus}
    if engine == "local":
        if given := [name for name, value in options.items() if value is not None]:
            raise UsageError(f"{given[0]} says where Ray runs: give --engine ray as well")
        return None
    from shiftproof.distributed.cluster import Cluster

    return Cluster(address, workers, 1 if cpus is None else cpus, gpus)

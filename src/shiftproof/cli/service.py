"""The command for an inspection station."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from shiftproof.cli.console import ERR, printable, say
from shiftproof.cli.options import Whole
from shiftproof.errors import UsageError

if TYPE_CHECKING:
    from shiftproof.service.station import Station

MEBIBYTE = 2**20
Several = Parameter(consume_multiple=True)


def serve(
    *models: Path,
    db: str | None = None,
    host: str = "127.0.0.1",
    port: Whole = 8000,
    token_file: Path | None = None,
    data_dir: Path = Path("station"),
    public_host: Annotated[tuple[str, ...], Several] = (),
    backend: str = "auto",
    threads: Whole | None = None,
    threshold_mode: str = "fixed",
    device: str | None = None,
    queue: Whole = 256,
    batch: Whole = 8,
    batch_wait_ms: float = 2.0,
    retention_mib: float = 20480.0,
    max_file_mib: float = 32.0,
    max_files: Whole = 64,
    max_pixels: Whole = 50_000_000,
) -> int:
    """Serve models over HTTP: inspect images, record every inspection, review them in a browser.

    Parameters
    ----------
    models
        Model folders; a model's name is its folder's.
    db
        URL of the database: sqlite:///FILE or postgresql://USER@HOST/NAME; by default SQLite in DATA_DIR.
    host
        Address to listen on; other than loopback needs --token-file.
    port
        To listen on; 0 takes any that is free.
    token_file
        File with a secret of 16 characters or more, which clients show as Authorization: Bearer.
    data_dir
        Folder for images, heatmaps and the SQLite database.
    public_host
        Host names that the reverse proxy forwards.
    backend
        torch, a graph such as openvino-int8 (info lists them), or auto: the fastest graph that can run here.
    threads
        Processor threads for each model; by default the backend's own choice.
    threshold_mode
        fixed, or conditional: unusual images get a threshold for their conditions (of models trained with --conditional).
    device
        Of torch: cpu, cuda or cuda:1; by default a GPU where there is one.
    queue
        Images that may wait for a model; more are refused with Retry-After.
    batch
        Largest batch.
    batch_wait_ms
        Milliseconds that a single image waits so that a batch can form.
    retention_mib
        Mebibytes of images and heatmaps to keep. The oldest are deleted first, reviewed ones last; results are kept.
    max_file_mib
        Largest file, in mebibytes.
    max_files
        Largest number of files in one request.
    max_pixels
        Largest number of pixels of an image.
    """
    try:
        from shiftproof.loading import LoadOptions
        from shiftproof.service.server import serve as run
        from shiftproof.service.settings import Limits, Settings
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise UsageError(f"serve needs the package {package}: pip install 'shiftproof[serve]'") from error

    for name, value, least in (
        ("--queue", queue, 1),
        ("--batch", batch, 1),
        ("--batch-wait-ms", batch_wait_ms, 0),
        ("--retention-mib", retention_mib, 1),
        ("--max-file-mib", max_file_mib, 0.001),
        ("--max-files", max_files, 1),
        ("--max-pixels", max_pixels, 1),
        ("--port", port, 0),
    ):
        if value < least:
            raise UsageError(f"{name} {value}; expected {least} or more")
    limits = Limits(
        files=max_files,
        file_bytes=int(max_file_mib * MEBIBYTE),
        body_bytes=max(Limits.body_bytes, int((max_file_mib + 1) * MEBIBYTE)),
        pixels=max_pixels,
    )
    settings = Settings(
        models=models,
        data=data_dir,
        database=db,
        host=host,
        port=port,
        token=None if token_file is None else read_token(token_file),
        public_hosts=public_host,
        options=LoadOptions(backend, threads=threads, threshold_mode=threshold_mode, device=device),
        queue=queue,
        batch=batch,
        batch_wait=batch_wait_ms / 1000,
        retention_bytes=int(retention_mib * MEBIBYTE),
        limits=limits,
    )
    logging.basicConfig(handlers=[_Lines()], level=logging.INFO, format="%(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    run(settings, _show)
    say("stopped: all accepted images were answered and recorded")
    return 0


def read_token(path: Path) -> str:
    """The secret in a file, without white space around it."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"--token-file {path} cannot be read ({reason}): give a file with a secret in it") from error


def _show(address: str, station: Station) -> None:
    names = ", ".join(f"{name} ({queue.version.detector.backend.name})" for name, queue in station.queues.items())
    say(f"serving {names} at {address}; Ctrl-C stops")
    say(f"database: {station.database.shown}; images: {station.settings.data}")


class _Lines(logging.Handler):
    """Log lines on standard error, as everything the command line says."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, and a traceback where there is one."""
        ERR.print(f"{record.levelname.lower()}: {printable(self.format(record))}", markup=False)

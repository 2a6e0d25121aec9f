"""``shiftproof watch``: inspect images as a camera or a controller drops them into a folder, each once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof.cli.console import say, warn
from shiftproof.cli.options import Whole
from shiftproof.errors import ModelError, UsageError
from shiftproof.signals import stop_requests

if TYPE_CHECKING:
    from shiftproof.watch.delivery import Receiver

FAILED_INPUTS = 3  # exit code: finished, but some images could not be read, or some messages wait


def watch(
    model: Path,
    folder: Path,
    /,
    *,
    out: Path,
    once: bool = False,
    settle: float = 1.0,
    move_to: Path | None = None,
    webhook: str | None = None,
    mqtt: str | None = None,
    alpha: float = 1e-4,
    backend: str = "auto",
    threshold_mode: str = "fixed",
    threads: Whole | None = None,
) -> int:
    """Inspect images as they arrive in a folder, each exactly once, also across restarts; a line for each in a table.

    Ctrl-C ends it after the image in hand. A journal is kept beside OUT; keep the two together.

    Parameters
    ----------
    model
        Folder that train wrote.
    folder
        Folder to watch, including subfolders.
    out
        Table to append to: FILE.csv or FILE.jsonl.
    once
        Inspect the files that are there, then stop.
    settle
        Seconds without changes after which a file counts as complete.
    move_to
        Folder to move inspected files to.
    webhook
        Address to post each line to as JSON, at least once; the header Idempotency-Key tells repetitions. A token in the
        environment variable SHIFTPROOF_WEBHOOK_TOKEN is sent along.
    mqtt
        HOST[:PORT]/TOPIC to publish each line to, quality of service 1. User and password: SHIFTPROOF_MQTT_USER, ..._PASSWORD.
    alpha
        False-alert rate of the watch for drift: 0.0001 is one in 10,000 images at most.
    backend
        torch, a graph such as openvino-int8 (info lists them), or auto: the fastest graph that can run here.
    threshold_mode
        fixed, or conditional: images that are unusual are judged by the threshold for their conditions (of a model
        trained with --conditional).
    threads
        Processor threads.
    """
    from shiftproof.drift import Monitor, corrected_groups, load_reference
    from shiftproof.loading import load
    from shiftproof.watch import Journal, MqttTopic, Watch, Webhook
    from shiftproof.watch.output import OutputTable
    from shiftproof.watch.run import resume_monitor

    if not 0 <= settle < float("inf"):
        raise UsageError(f"--settle {settle}: expected seconds, 0 or more")
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder that could be watched: make it, or check the path")
    if move_to is not None and move_to.resolve() == folder.resolve():
        raise UsageError(f"--move-to {move_to} is the folder that is watched: choose another")
    output = OutputTable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Journal(out.with_name(f"{out.name}.journal")) as journal:
        receivers: list[Receiver] = [
            *([Webhook(webhook)] if webhook else []),
            *([MqttTopic(mqtt, journal.id)] if mqtt else []),
        ]
        detector = load(model, backend, threads=threads, threshold_mode=threshold_mode)
        monitor = None
        try:
            reference = load_reference(model, detector.manifest)
        except ModelError as error:
            warn(f"no watch for drift: {error}")
        else:
            groups, bound = corrected_groups(detector.manifest), detector.calibration.bound
            monitor = resume_monitor(journal, Monitor(reference, alpha, corrected=groups, bound=bound), warn)
        watching = Watch(
            detector,
            folder,
            output,
            journal,
            model=model.resolve().name,
            settle=settle,
            move_to=move_to,
            monitor=monitor,
            receivers=receivers,
            say=say,
            warn=warn,
        )
        say(f"watching {folder}: lines in {out}, journal in {journal.path}")
        with stop_requests() as stop:  # a second Ctrl-C ends it at once, which harms nothing
            totals = watching.run(stop, once=once)
    say(
        f"{totals.images} images: {totals.defective} defective, {totals.failures} unreadable; "
        f"{totals.alerts} drifts found; {totals.undelivered} messages wait"
    )
    return FAILED_INPUTS if totals.failures or totals.undelivered else 0

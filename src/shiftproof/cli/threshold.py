"""``shiftproof threshold``: show the threshold, or move it."""

from __future__ import annotations

from pathlib import Path

from shiftproof.calibration import Calibration
from shiftproof.cli.console import Bar, say, table, warn
from shiftproof.errors import UsageError


def threshold(
    model: Path,
    /,
    *,
    false_alarm_rate: float | None = None,
    rule: str | None = None,
    value: float | None = None,
    calibration: Path | None = None,
    force: bool = False,
) -> int:
    """Show the threshold of a model and its guarantees, or move it without training.

    Parameters
    ----------
    model
        Folder that train wrote.
    false_alarm_rate
        Place the threshold for this rate among good images.
    rule
        expected (at most that rate in the mean) or certified (at most that rate with 95 % confidence).
    value
        Use this score as the threshold.
    calibration
        Folder of further good images, which the model has not been trained on: they are added to the calibration images.
    force
        Add images also where their scores are far from those of the calibration images.
    """
    from shiftproof.pipelines.threshold import move_threshold, read_threshold, score_further

    if value is not None and (false_alarm_rate is not None or rule is not None):
        raise UsageError("--value was given together with --false-alarm-rate or --rule: give one of them")
    if false_alarm_rate is not None and not 0 < false_alarm_rate < 1:
        raise UsageError(
            f"false-alarm rate {false_alarm_rate} is out of range: expected one between 0 and 1, e.g. 0.05"
        )
    if calibration is None and false_alarm_rate is rule is value is None:
        current, history = read_threshold(model)
        _show(current)
        if history:
            columns = ("replaced", "threshold", "rule", "target", "images")
            rows = [[_text(entry[name]) for name in columns] for entry in history]
            say("former thresholds:")
            table(columns, rows)
        return 0
    further: list[float] = []
    if calibration is not None:
        from shiftproof.loading import load

        with Bar() as bar:
            further = score_further(
                load(model),
                calibration,
                force=force,
                warn=warn,
                on_progress=lambda done, total: bar("scoring", done, total),
            )
    source = f"{len(further)} images of {calibration}" if further else ""
    moved = move_threshold(model, target=false_alarm_rate, rule=rule, value=value, further=further, source=source)
    say(f"before: threshold {moved.former.threshold:.4f}; {moved.former.sentence()}")
    _show(moved.current)
    for line in moved.remarks:
        warn(line)
    return 0


def _show(calibration: Calibration) -> None:
    say(f"threshold {calibration.threshold:.4f}, rule {calibration.rule}")
    say(calibration.sentence())


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

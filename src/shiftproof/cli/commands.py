"""The commands. Each only reads its options, calls one function of the layers below, and says what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftproof.cli.console import Bar, say, table, warn
from shiftproof.cli.deploy import export, profile
from shiftproof.cli.options import Whole
from shiftproof.cli.predict import Correction, failed, predict
from shiftproof.cli.threshold import threshold
from shiftproof.config import DEFAULT_METHOD
from shiftproof.report.page import duration, number, percent
from shiftproof.reporter import Reporter


def evaluate(
    model: Path,
    data: Path,
    /,
    *,
    out: Path,
    shifts: str = "clean",
    layout: str = "auto",
    seed: Whole = 0,
    correction: Correction = None,
    backend: str = "auto",
    threshold_mode: str = "fixed",
    device: str | None = None,
) -> int:
    """Score a labelled test set at the fixed threshold; writes metrics.json, scores.csv and report.html.

    Parameters
    ----------
    model
        Folder that train wrote.
    data
        Category with test/ (and ground_truth/ for pixel figures).
    out
        Folder to write to.
    shifts
        clean, all, paper, or NAME[:SEVERITY],... such as brightness:3,gaussian_noise:1-5.
    layout
        How DATA is laid out: auto, or a name of docs/data.md, such as mvtec, visa or folder.
    seed
        Of what is random in the shifts.
    correction
        Use the model's shift correction, or leave it out; by default as it was trained.
    backend
        torch, a graph such as openvino-int8 (info lists them), or auto: the fastest graph that can run here.
    threshold_mode
        fixed, or conditional: verdicts of images that are unusual by the threshold for their conditions, and what
        that comes to beside the fixed one (of a model trained with --conditional).
    device
        Of torch: cpu, cuda or cuda:1; by default a GPU where there is one.
    """
    from shiftproof.loading import LoadOptions, open_detector
    from shiftproof.pipelines import evaluate as run
    from shiftproof.shifts import parse_conditions

    conditions = parse_conditions(shifts)
    options = LoadOptions(backend, correction, threshold_mode=threshold_mode, device=device)
    with Bar() as bar:
        found = run(
            open_detector(model, options),
            data,
            out,
            shifts=conditions,
            layout=layout,
            seed=seed,
            title=f"{model.resolve().name} on {data.resolve().name}",
            on_progress=lambda done, total: bar("evaluating", done, total),
            warn=warn,
        )
    show_metrics(found.metrics)
    say(f"report: {out / 'report.html'}")
    return failed(found.failures, len(found.failures))


def corrupt(data: Path, out: Path, /, *, shift: str, severity: Whole = 3, seed: Whole = 0, layout: str = "auto") -> int:
    """Write a shifted copy of a data set: same layout and names, masks moved along, train/ linked.

    Parameters
    ----------
    data
        Category with test/, or a folder of images.
    out
        Folder to write; it must be empty.
    shift
        Name of the shift; see docs/shifts.md.
    severity
        1 (slight) to 5.
    seed
        Of what is random in the shift.
    layout
        How DATA is laid out: auto, or a name of docs/data.md, such as mvtec, visa or folder.
    """
    from shiftproof.pipelines import corrupt as run
    from shiftproof.shifts import Condition

    condition = Condition(shift, severity)
    with Bar() as bar:
        done = run(
            data, out, condition, seed=seed, layout=layout, on_progress=lambda n, total: bar("shifting", n, total)
        )
    lost = f"; {done.lost_defects} defect regions were moved out of the frame" if done.lost_defects else ""
    say(f"{done.images} images under {condition.name} in {out}{lost}")
    return failed(done.failures, len(done.failures))


def info(subject: str, /, *, method: str | None = None) -> int:
    """Describe a model folder, or count what a method would build on a backbone (no weights needed).

    Parameters
    ----------
    subject
        A model folder, or a timm name with its pretrained tag.
    method
        For a backbone: rd, rdpp, gnl, fusion or memory.
    """
    path = Path(subject)
    if path.exists() or "/" in subject:
        from shiftproof.model_io import load_manifest

        _show_model(path, load_manifest(path))
    else:
        _show_backbone(subject, method)
    return 0


def demo(*, out: Path = Path("runs/demo"), seed: Whole = 0) -> int:
    """Train, evaluate and predict on solar cells that a package carries; ends with the measured table.

    Parameters
    ----------
    out
        Folder for data, model and reports; an earlier demo there is replaced.
    seed
        Of the split and the training.
    """
    from shiftproof.cli.demo import run

    reporter, bar = _reporter()
    with bar:
        metrics, lines = run(out, seed, reporter)
    show_metrics(metrics)
    for line in lines:
        say(line)
    return 0


def show_metrics(metrics: Mapping[str, Any]) -> None:
    """The table of conditions: what ``metrics.json`` holds, to three decimals."""
    conditional = any("conditional" in m for m in metrics.values())
    head = (
        *(
            "condition",
            "image AUROC",
            "AP",
            "pixel AUROC",
            "AUPRO 0.3",
            "AUPRO 0.05",
            "false alarms",
            "detected (95 %)",
            "best",
        ),
        *(("conditional: false alarms", "detected") if conditional else ()),
    )
    rows = [
        (
            name,
            number(m["image"]["auroc"]),
            number(m["image"]["ap"]),
            number(m["pixel"]["auroc"]),
            number(m["pixel"]["aupro_30"]),
            number(m["pixel"]["aupro_05"]),
            percent(m["threshold"]["false_alarm_rate"]),
            _with_interval(m["threshold"]),
            percent(m["threshold"]["detection_rate_best"]),
            *(percent(m["conditional"][rate]) for rate in ("false_alarm_rate", "detection_rate") if conditional),
        )
        for name, m in metrics.items()
    ]
    table(head, rows)


def _with_interval(rates: Mapping[str, Any]) -> str:
    """Return the detection rate with its interval, where it has one."""
    interval = rates.get("detection_interval")
    between = f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})" if interval else ""
    return percent(rates["detection_rate"]) + between


def _show_model(path: Path, manifest: Mapping[str, Any]) -> None:
    from shiftproof.calibration import Calibration

    config, facts, record, teacher = (manifest[key] for key in ("config", "data", "training", "teacher"))
    calibration = Calibration.from_json(manifest["calibration"])
    lines = {
        "model": f"{path} (format {manifest['format']}, shiftproof {manifest['shiftproof']})",
        "method": f"{manifest['method']} {dict(config['method'])}",
        "teacher": f"{teacher['name']} from {teacher['source']}, sha256 {teacher['sha256'][:12]}",
        "images": f"{facts['train_images']} to train on, {facts['calibration_images']} for calibration; "
        f"fingerprint {facts['fingerprint'][:12]}",
        "image size": "x".join(map(str, config["image_size"])),
        "training": f"{record['steps']} steps in {duration(record['seconds'])} on {record['device']}, "
        f"precision {record['precision']}, seed {manifest['seed']}",
        "threshold": f"{calibration.threshold:.6g}; {calibration.sentence()}",
        "conditional": "{protocol}: {images} calibration images in {versions} versions each".format(**entry)
        if (entry := manifest.get("conditional"))
        else "the fixed threshold for every image; train --conditional makes others",
        "size": ", ".join(f"{name} {entry['bytes'] / 1e6:.1f} MB" for name, entry in manifest["files"].items()),
        "graphs": ", ".join(
            f"{name} (score within {export['parity']['score']:.1e} of the model's)"
            for name, export in manifest.get("exports", {}).items()
        )
        or "none; shiftproof export writes them",
    }
    for name, line in lines.items():
        say(f"{name:<11} {line}")


def _show_backbone(name: str, method: str | None) -> None:
    import torch

    from shiftproof.methods import method_class
    from shiftproof.networks.teacher import Teacher, describe_teacher

    kind = method_class(method or DEFAULT_METHOD)
    teacher_info = describe_teacher(name)
    with torch.device("meta"):
        built = kind(Teacher(teacher_info), kind.Config())
    modules: dict[str, torch.nn.Module] = {}
    for part, module in built.named_children():
        # The student's two halves are parts that the papers count.
        modules |= dict(module.named_children()) if part == "student" else {part: module}
    parts = {part: sum(p.numel() for p in module.parameters()) for part, module in modules.items()}
    rows = [(part, f"{count:,}") for part, count in parts.items() if count]
    say(
        f"{name}: stages of {', '.join(map(str, teacher_info.channels))} channels at stride 4, 8, 16; "
        f"weights: {teacher_info.licence}"
    )
    table((method or DEFAULT_METHOD, "parameters"), [*rows, ("total", f"{sum(parts.values()):,}")])


def _reporter() -> tuple[Reporter, Bar]:
    bar = Bar()
    return Reporter(info=say, warning=warn, progress=bar), bar


COMMANDS = (evaluate, predict, threshold, corrupt, export, profile, info, demo)

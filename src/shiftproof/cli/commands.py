"""The commands. Each only reads its options, calls one function of the layers below, and says what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from shiftproof.cli.console import Bar, say, table, warn
from shiftproof.cli.deploy import export, profile
from shiftproof.cli.options import Whole
from shiftproof.cli.predict import FAILED_INPUTS, Correction, failed, predict
from shiftproof.errors import UsageError
from shiftproof.report.page import duration, number, percent
from shiftproof.reporter import Reporter


def train(
    data: Path,
    model: Path,
    /,
    *,
    method: str | None = None,
    backbone: str | None = None,
    weights: Path | None = None,
    image_size: str = "256",
    epochs: Whole | None = None,
    steps: Whole | None = None,
    seed: Whole = 0,
    calibration: Path | None = None,
    false_alarm_rate: float = 0.05,
    layout: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    batch_size: Whole | None = None,
    learning_rate: float | None = None,
    optimizer: str | None = None,
    schedule: str | None = None,
    precision: str | None = None,
    devices: Whole | None = None,
    student: str | None = None,
    distillation: str | None = None,
    ssot: str | None = None,
    augment: str | None = None,
    random_rotation: str | None = None,
    denoise_augmentation: Annotated[bool | None, Parameter(negative="--no-denoise-augmentation")] = None,
    textures: Path | None = None,
    segmentation: Annotated[bool | None, Parameter(negative="--no-segmentation")] = None,
    correction: str | None = None,
    correction_weight: float | None = None,
    conditional: str = "none",
) -> int:
    """Train on images of good parts and write a model folder.

    Parameters
    ----------
    data
        Folder of good images (flat or nested), a category with train/good, or a manifest. Nothing below test/ is read.
    model
        Folder to write.
    method
        rd, rdpp, gnl or fusion.
    backbone
        Teacher: a timm name with its pretrained tag; tf_efficientnet_lite0.in1k by default.
    weights
        File with the teacher's weights (safetensors or a plain state dict), for sites without a model hub.
    image_size
        N or HxW: what images are resized to.
    epochs
        Passes over the training images, instead of the fixed number of steps.
    steps
        Batches in all; by default the same fixed number for every product.
    seed
        Of weights, order, augmentation and split. Same seed, same machine: same model.
    calibration
        Folder of further good images to place the threshold with, instead of DATA's own validation images or a part of it.
    false_alarm_rate
        Wanted among good images at the threshold.
    layout
        How DATA is laid out: auto, or a name of docs/data.md, such as mvtec, visa or folder.
    resume
        Go on from the checkpoint of an interrupted training; give the other options as before.
    overwrite
        Replace a model that is there.
    batch_size
        Images in a step, over all devices.
    learning_rate
        At its peak; RD++'s projection takes a fifth of it.
    optimizer
        adamw, or adam as in the papers.
    schedule
        one-cycle, or constant as in the papers.
    precision
        auto, 32 or bf16.
    devices
        Processes; more than one trains with DDP.
    student
        auto, paper or lightweight.
    distillation
        hard, position, or flattened as in the papers.
    ssot
        Of rdpp and fusion: pairwise, reference (zero, as the reference code computes it) or off.
    augment
        AugMix views: none, blind (without the operations of the test shifts) or production (all that helps). The default
        of gnl and fusion is blind.
    random_rotation
        Views rotated by any angle: never, always, or auto (if the good images have every direction).
    denoise_augmentation
        Views without the fine detail that image correction removes with noise.
    textures
        Folder of pictures, such as DTD, that synthetic anomalies are made of; without one they are made.
    segmentation
        Of gnl and fusion: train the segmentation head, or leave it out.
    correction
        Correct global shifts of the image, of the features, of both, or none.
    correction_weight
        Blend weight of corrected features, 0 to 1.
    conditional
        Place thresholds for drifted images as well, with calibration images that are shifted: none, blind (by nothing that
        the papers test with) or production (by all shifts).
    """
    from shiftproof.pipelines import train as pipeline

    if epochs is not None and steps is not None:
        raise UsageError("--epochs and --steps both say how long to train: give one of them")
    reporter, bar = _reporter()
    schedule_options = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "schedule": schedule,
        "precision": precision,
        "devices": devices,
    }
    options = {
        "student": student,
        "distillation": distillation,
        "ssot": ssot,
        "augment": augment,
        "random_rotation": random_rotation,
        "denoise_augmentation": denoise_augmentation,
        "segmentation": segmentation,
        "correction": correction,
        "correction_weight": correction_weight,
    }
    with bar:
        detector = pipeline.train(
            data,
            model,
            method=method or pipeline.DEFAULT_METHOD,
            backbone=backbone or pipeline.DEFAULT_BACKBONE,
            weights=weights,
            layout=layout,
            calibration=calibration,
            false_alarm_rate=false_alarm_rate,
            resume=resume,
            overwrite=overwrite,
            method_options=_set(options),
            textures=textures,
            conditional=conditional,
            reporter=reporter,
            image_size=image_size,
            seed=seed,
            **_set(schedule_options),
        )
    facts, record = detector.manifest["data"], detector.manifest["training"]
    say(
        f"trained {detector.manifest['method']} on {facts['train_images']} good images: "
        f"{record['steps']} steps in {duration(record['seconds'])}"
    )
    say(f"threshold {detector.calibration.threshold:.4f}; {detector.calibration.sentence()}")
    say(f"model: {model}")
    return FAILED_INPUTS if facts["unreadable"] else 0


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
    """
    from shiftproof.detector import load
    from shiftproof.pipelines import evaluate as run
    from shiftproof.shifts import parse_conditions

    conditions = parse_conditions(shifts)
    with Bar() as bar:
        found = run(
            load(model, backend, correction=correction, threshold_mode=threshold_mode),
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
        For a backbone: rd, rdpp, gnl or fusion.
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
        *("condition", "image AUROC", "AP", "pixel AUROC", "AUPRO 0.3", "AUPRO 0.05", "false alarms", "detected"),
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
            percent(m["threshold"]["detection_rate"]),
            *(percent(m["conditional"][rate]) for rate in ("false_alarm_rate", "detection_rate") if conditional),
        )
        for name, m in metrics.items()
    ]
    table(head, rows)


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
    from shiftproof.pipelines.train import DEFAULT_METHOD

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


def _set(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


COMMANDS = (train, evaluate, predict, corrupt, export, profile, info, demo)

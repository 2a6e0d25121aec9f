"""``shiftproof drift``: have images drifted away from those that a model was trained on?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from shiftproof.cli.console import Bar, say, table, warn
from shiftproof.cli.options import Whole
from shiftproof.cli.predict import Correction, failed

FEW_GOOD = 30  # good images below which a drift is found late


def drift(
    model: Path,
    folder: Path,
    /,
    *,
    out: Path | None = None,
    alpha: float = 1e-4,
    order: str = "name",
    reference: Path | None = None,
    verdicts: Annotated[bool, Parameter(negative="--no-verdicts")] = True,
    correction: Correction = None,
    backend: str = "auto",
    seed: Whole = 0,
) -> int:
    """Test whether the images of a folder, in their order, have drifted from the good training images.

    With --out it writes drift.csv, drift.json and drift.html.

    Parameters
    ----------
    model
        Folder that train wrote.
    folder
        Folder of images.
    out
        Folder to write to.
    alpha
        False-alert rate: 0.0001 is one in 10,000 images at most, where nothing has drifted.
    order
        Of the images: name (numbers as numbers), or time (of the file's last change).
    reference
        Folder of good images to compare with, instead of the model's own reference.
    verdicts
        Inspect the images too, to say what a drift does to the verdicts; --no-verdicts saves the time.
    correction
        Use the model's shift correction, or leave it out; by default as it was trained.
    backend
        torch, a graph such as openvino-int8 (info lists them), or auto: the fastest graph that can run here.
    seed
        Seed for breaking ties.
    """
    from shiftproof.calibration import Calibration
    from shiftproof.data import find_images
    from shiftproof.drift import GROUPS, Monitor, corrected_groups, load_reference, reference_of_files
    from shiftproof.loading import CALIBRATION, load
    from shiftproof.model_io import load_manifest
    from shiftproof.pipelines.drift import detect_drift, sort_files

    manifest = load_manifest(model)
    height, width = manifest["config"]["image_size"]
    sort_files(folder, order)  # nothing to read is said before anything is loaded
    with Bar() as bar:
        good = (
            load_reference(model, manifest)
            if reference is None
            else reference_of_files(
                find_images(reference),
                (height, width),
                seed=seed,
                on_progress=lambda done, total: bar("measuring good images", done, total),
            )
        )
        detector = load(model, backend, correction=correction) if verdicts else None
        calibration = detector.calibration if detector else Calibration.from_json(manifest[CALIBRATION])
        groups = corrected_groups(manifest, correction=correction is not False)
        monitor = Monitor(good, alpha, corrected=groups, bound=calibration.bound, seed=seed)
        found = detect_drift(
            monitor,
            folder,
            size=(height, width),
            detector=detector,
            order=order,
            out=out,
            title=f"{model.resolve().name} and the images in {folder.resolve().name}",
            manifest=manifest,
            on_progress=lambda done, total: bar("measuring", done, total),
        )
    if len(good.good) < FEW_GOOD:
        warn(
            f"the reference holds {len(good.good)} good images: with fewer than {FEW_GOOD} a drift is found late; add images"
        )
    last = np.median(found.deviations[-50:], axis=0)
    rows = [
        (group, f"{value:+.1f}", f"{found.last.by_group[group]:.1f}")
        for group, value in zip(GROUPS, last.tolist(), strict=True)
    ]
    table(("group", f"last {min(50, len(found.deviations))} images, sigma", "evidence"), rows)
    say(
        f"{found.images} images {found.order}; alert at evidence {-np.log10(alpha):g}, reference: {len(good.good)} good images"
    )
    for line in found.lines():
        say(line)
    if out is not None:
        say(f"report: {out / 'drift.html'}")
    return failed(found.failures, len(found.failures))

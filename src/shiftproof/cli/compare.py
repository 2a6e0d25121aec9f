"""``shiftproof compare``: what changes if another model takes over."""

from __future__ import annotations

from pathlib import Path

from shiftproof.cli.console import Bar, say
from shiftproof.cli.predict import failed


def compare(
    model_a: Path, model_b: Path, data: Path, /, *, out: Path, layout: str = "auto", backend: str = "auto"
) -> int:
    """Compare two models on the same images; writes comparison.csv and pictures of the images whose verdicts differ.

    Parameters
    ----------
    model_a
        Folder of the model in use.
    model_b
        Folder of the model that may replace it.
    data
        Labelled category, for false alarms and missed defects of both, or a folder of images.
    out
        Folder to write to.
    layout
        How DATA is laid out: auto, or a name of docs/data.md.
    backend
        torch, a graph such as onnx, or auto: the fastest graph of each model that can run here.
    """
    from shiftproof.loading import load
    from shiftproof.pipelines.compare import CHANGED
    from shiftproof.pipelines.compare import compare as run

    models = load(model_a, backend), load(model_b, backend)
    with Bar() as bar:
        found = run(models, data, out, layout=layout, on_progress=lambda done, total: bar("inspecting", done, total))
    changed = found.to_defective + found.to_good
    say(
        f"{found.images} images: {changed} verdicts differ, {found.to_defective} from good to defective, "
        f"{found.to_good} from defective to good"
    )
    if found.good or found.defective:
        for name, errors in (("A", found.errors[0]), ("B", found.errors[1])):
            say(
                f"model {name}: {errors.false_alarms} of {found.good} good images are false alarms, "
                f"{errors.missed} of {found.defective} defects are missed"
            )
    say(f"table: {out / 'comparison.csv'}" + (f"; pictures: {out / CHANGED}" if changed else ""))
    return failed(found.failures, len(found.failures))

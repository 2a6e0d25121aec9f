"""Models with random weights: what is exported must agree, whatever it has learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shiftproof.calibration import Calibration
from shiftproof.data import synthetic_images
from shiftproof.export import export_model
from shiftproof.methods import METHODS, Inspector
from shiftproof.model_io import save_model
from shiftproof.networks.teacher import Teacher, describe_teacher, teacher_manifest
from shiftproof.torch_backend import TorchBackend

BACKBONE = "tf_efficientnet_lite0.in1k"
SIZE = (64, 96)  # not square: height and width must not be mixed up


def save_random_model(folder: Path, method: str, **options: Any) -> Path:
    torch.manual_seed(0)
    kind = METHODS[method]
    network = kind(Teacher(describe_teacher(BACKBONE)), kind.Config(**options))
    pixels = synthetic_images(SIZE, 20, seed=1)
    with torch.no_grad():
        network.fit_statistics(pixels, np.random.default_rng(0))
        network.fit_scale(pixels)
    maps, scores = TorchBackend(Inspector(network), SIZE).maps_and_scores(pixels)
    manifest = {
        "method": method,
        "config": {"image_size": list(SIZE), "method": asdict(network.config)},
        "teacher": teacher_manifest(network.teacher, "random"),
        "calibration": Calibration.from_scores(scores, target=0.2, map_low=float(np.median(maps))).to_json(),
    }
    save_model(folder, manifest, {key: value.cpu().numpy() for key, value in network.state_dict().items()})
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Model folders by method, each exported once; not to be changed."""
    made: dict[str, Path] = {}

    def of(method: str) -> Path:
        if method not in made:
            made[method] = save_random_model(tmp_path_factory.mktemp("exported") / method, method)
            export_model(made[method])
        return made[method]

    return of

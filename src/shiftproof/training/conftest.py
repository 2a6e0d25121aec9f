"""What the tests of training share: a random teacher, a few images, and methods on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shiftproof.methods import Method, method_class
from shiftproof.networks.teacher import DEFAULT_BACKBONE, Teacher, describe_teacher
from shiftproof.training import loop


@pytest.fixture(scope="package")
def teacher() -> Teacher:
    torch.manual_seed(7)
    return Teacher(describe_teacher(DEFAULT_BACKBONE))


@pytest.fixture(scope="package")
def pixels() -> NDArray[np.uint8]:
    """Ten images of noise, uint8 [10, 64, 64, 3]."""
    return np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def build(teacher: Teacher) -> Callable[..., Method]:
    """A method with the same first weights each time, but for its seed."""

    def build(name: str | type[Method] = "rdpp", seed: int = 0, **settings: Any) -> Method:
        kind = method_class(name) if isinstance(name, str) else name
        torch.manual_seed(seed)
        return kind(teacher, kind.Config(**settings))

    return build


@pytest.fixture
def always_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0)

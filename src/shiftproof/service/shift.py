"""How far an image lies from the good ones, as its row keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.drift import Reference, measure


def measured(reference: Reference, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """What a row keeps of how far an image lies from the good ones.

    Args:
        reference: of the model.
        pixels: uint8 [h, w, 3], of the model's size.

    Returns:
        ``measure`` (about 1 for a good image), ``p_value``, ``levels`` (group -> sigma) and ``statistics`` (18 numbers).
    """
    values = measure(pixels)
    distance = reference.distance(values)
    return {
        "distance": distance,
        "p_value": reference.p_value(distance),
        "levels": reference.by_group(values),
        "statistics": values.tolist(),
    }

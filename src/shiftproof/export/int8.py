"""Post-training quantisation to 8 bits of what forgives it: convolutions of the student and of the teacher's coarsest stage.

The teacher is the yardstick: what eight bits take from its fine stages no student puts back, and it shows as a distance.
Image correction comes before both: its cosine transform in eight bits is an image with less than eight.
Nor do those forgive it whose sums are short or whose inputs are nearly equal: distances, sorting, logarithms, and filters
that read or write a single channel (smoothing, cosine transforms).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import ExportError
from shiftproof.export.graph import quietly, reason
from shiftproof.runtime import INPUT

QUANTISED = {"Convolution", "ConvolutionBackpropData", "GroupConvolution", "Conv", "ConvTranspose"}
"""Types of operations, as OpenVINO and as ONNX call them."""
AT_MOST = 64  # images that the ranges of activations are taken from
CORRECTION, TEACHER = ".image_correction.", ".teacher."  # in the names of their weights
COARSE = 16  # stride from which on the teacher's convolutions are quantised


def kept_in_float(graph: Any, height: int) -> set[str]:
    """Names of the convolutions of image correction, and of the teacher's at a stride below :data:`COARSE`.

    Args:
        graph: ``onnx.ModelProto`` as :func:`~shiftproof.export.graph.to_onnx` gives it: weights bear their modules' names.
        height: of the images.
    """
    heights = {
        value.name: value.type.tensor_type.shape.dim[2].dim_value
        for value in graph.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4
    }
    return {
        node.name
        for node in graph.graph.node
        if node.op_type in QUANTISED
        and (CORRECTION in node.input[1] or (TEACHER in node.input[1] and heights[node.output[0]] > height // COARSE))
    }


def quantise(graph: Any, pixels: NDArray[np.uint8], kept: set[str]) -> Any:
    """Quantise a graph with NNCF.

    Args:
        graph: an ``openvino.Model`` or an ``onnx.ModelProto``.
        kept: names of convolutions, in ONNX, that stay in float.
        pixels: good images, uint8 [N, H, W, 3]; the ranges of activations are theirs.

    Returns:
        a graph of the same kind, input and outputs.

    Raises:
        ExportError: NNCF cannot.
    """
    with quietly("nncf", "torch.utils.cpp_extension"):
        try:
            import nncf
            from nncf.quantization.advanced_parameters import QuantizationParameters

            nodes = list(_nodes(graph))
            scope = nncf.IgnoredScope(
                types=sorted({kind for kind, _, _ in nodes} - QUANTISED - {"Constant", "Parameter", "Result"}),
                # OpenVINO splits a convolution and its bias, and calls the parts "name/...".
                names=[name for _, name, is_filter in nodes if is_filter or name.split("/")[0] in kept],
            )
            # Of a depthwise convolution NNCF would give each channel of the input a range; ONNX Runtime has no kernel for that.
            one_range = QuantizationParameters(per_channel=None if hasattr(graph, "get_ops") else False)
            images = nncf.Dataset(list(pixels), lambda image: {INPUT: image[None]})
            with ThreadPoolExecutor(1) as thread:  # NNCF loads OpenVINO's plugin; see openvino_core for what that does
                return thread.submit(
                    nncf.quantize,
                    graph,
                    images,
                    preset=nncf.QuantizationPreset.MIXED,
                    ignored_scope=scope,
                    subset_size=len(pixels),
                    advanced_parameters=nncf.AdvancedQuantizationParameters(activations_quantization_params=one_range),
                ).result()
        except ModuleNotFoundError:
            raise
        except Exception as error:
            raise ExportError(f"the graph cannot be quantised ({reason(error)}): export without --int8") from error


def _nodes(graph: Any) -> Iterator[tuple[str, str, bool]]:
    """Type and name of every operation, and whether it is a convolution that reads or writes a single channel."""
    if hasattr(graph, "get_ops"):
        for node in graph.get_ops():
            kind = node.get_type_name()
            ungrouped = kind in QUANTISED and kind != "GroupConvolution"
            sides = list(node.input_value(1).get_partial_shape())[:2] if ungrouped else ()
            yield kind, node.get_friendly_name(), any(side.get_length() == 1 for side in sides)
        return
    shapes = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        sides = () if node.op_type not in QUANTISED or grouped else shapes.get(node.input[1], ())[:2]
        yield node.op_type, node.name, 1 in sides

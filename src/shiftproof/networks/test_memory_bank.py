"""The memory bank against brute force, the coreset against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from shiftproof.networks.memory_bank import MemoryBank, greedy_coreset


def stages(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 4, 8, 12, generator=generator), torch.randn(count, 6, 4, 6, generator=generator)]


def filled(count: int = 5, size: int = 40, neighborhood: int = 3) -> MemoryBank:
    bank = MemoryBank((4, 6), size, neighborhood)
    bank.fit([stages(count)], count, np.random.default_rng(0))
    return bank


def test_distances_are_those_of_brute_force() -> None:
    bank, images = filled(), stages(3, seed=1)
    patches = bank.transform(bank.embed(images))
    expected = torch.cdist(patches.double(), bank.patches.double()).amin(dim=2).reshape(3, 8, 12)
    torch.testing.assert_close(bank(images).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_neighborhood_is_a_mean_that_ignores_what_lies_outside() -> None:
    bank = MemoryBank((1,), 4, 3)
    embedded = bank.embed([torch.arange(9.0).reshape(1, 1, 3, 3)])
    assert embedded.flatten().tolist() == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]


def test_each_stage_has_the_same_weight() -> None:
    bank = filled(size=480)
    variances = bank.patches.var(dim=0)
    assert variances[:4].sum().item() == pytest.approx(1, rel=0.05)
    assert variances[4:].sum().item() == pytest.approx(1, rel=0.05)


def test_an_image_in_the_bank_is_at_no_distance_until_it_is_left_out() -> None:
    count = 4
    bank = filled(count, size=count * 96)
    images = stages(count)
    torch.testing.assert_close(bank(images), torch.zeros(count, 8, 12), atol=5e-3, rtol=0)
    for index in range(count):
        bank.left_out = index
        distances = bank([stage[index : index + 1] for stage in images])
        others = [i for i in range(count) if i != index]
        patches = bank.transform(bank.embed(images))
        expected = torch.cdist(patches[index : index + 1], patches[others].flatten(0, 1)).amin(dim=2)
        torch.testing.assert_close(distances.flatten(1), expected, rtol=1e-3, atol=1e-3)


def test_the_same_seed_fills_the_same_bank() -> None:
    assert torch.equal(filled().patches, filled().patches)


def test_the_coreset_is_greedy() -> None:
    """In as many dimensions as the projection has, each selected point is about the farthest from those before it."""
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)) @ torch.randn(2, 50)
    selected = greedy_coreset(points, 30, np.random.default_rng(1))
    assert len(set(selected.tolist())) == 30
    cover = torch.cdist(points, points[selected]).amin(dim=1).max()
    drawn = torch.cdist(points, points[:30]).amin(dim=1).max()
    assert cover < 0.7 * drawn


def test_fewer_points_than_places_repeat() -> None:
    assert greedy_coreset(torch.zeros(3, 5), 7, np.random.default_rng(0)).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_directions_of_perturbations_count_less() -> None:
    images = stages(6)
    shift = torch.randn(4, generator=torch.Generator().manual_seed(3))[:, None, None]
    moved = [images[0] + shift, images[1]]

    def change(invariance: float) -> tuple[float, float]:
        """Mean distance of moved patches, over that of patches moved as far in random directions."""
        bank = MemoryBank((4, 6), 6 * 96, 1)
        bank.fit([images], 6, np.random.default_rng(0), [(images, moved)], invariance)
        noise = torch.randn(images[0].shape, generator=torch.Generator().manual_seed(4))
        other = [images[0] + noise * shift.norm() / noise.norm(dim=1, keepdim=True), images[1]]
        return bank(moved).mean().item(), bank(other).mean().item()

    plain, invariant = change(0.0), change(4.0)
    assert invariant[0] < 0.5 * plain[0]
    assert invariant[1] > 0.6 * plain[1]

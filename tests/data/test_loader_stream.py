"""A loader's batch depends only on its step, and ranks share one draw."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hf_wbc.config import AUGMENTATIONS, Augmentation
from hf_wbc.data.augment import NO_CHANGE
from hf_wbc.data.batch import Batch, DomainView
from hf_wbc.data.image_statistics import color_statistics
from hf_wbc.data.loader import BatchLoader, LoaderConfig
from hf_wbc.data.preprocessing import ImagePreprocessing, normalize
from hf_wbc.data.table import Table, concatenate, feature_table
from hf_wbc.taxonomy import NUM_CLASSES

STRENGTH = replace(AUGMENTATIONS["light"], rotation_deg=10.0)
TABLES = ("preprocessing", "style_targets")


def images(name: str, num: int, seed: int, *, labeled: bool = True) -> Table:
    """Draw random 8 x 8 px images, unevenly spread over the classes."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(np.arange(num), rng.integers(0, NUM_CLASSES, num))
    return Table(
        chunks=(rng.integers(0, 256, (num, 8, 8, 3), dtype=np.uint8),),
        labels=labels if labeled else np.full(num, -1),
        domains=np.zeros(num, dtype=np.int64),
        image_ids=[f"{name}_{row}" for row in range(num)],
        domain_names=(name,),
    )


@pytest.fixture
def source() -> Table:
    return concatenate([images("a", 50, 0), images("b", 20, 1)])


@pytest.fixture
def target() -> Table:
    return images("c", 30, 2, labeled=False)


def stream(source: Table, target: Table | None = None, **options: Any) -> BatchLoader:
    defaults: dict[str, Any] = {"batch_size": 8, "num_steps": 10, "augmentation": STRENGTH}
    tables = {name: options.pop(name) for name in TABLES if name in options}
    return BatchLoader(source, target, LoaderConfig(**{**defaults, **options}), **tables)


def assert_same(first: DomainView | None, second: DomainView | None) -> None:
    assert first is not None and second is not None
    for name, value in vars(first).items():
        other = getattr(second, name)
        assert torch.equal(value, other) if value is not None else other is None, name


def test_batch_depends_only_on_its_step(source: Table, target: Table) -> None:
    one, other = (
        stream(source, target, strong_views=True, gradient_accumulation_steps=2) for _ in range(2)
    )
    forward = [one.batch(step, micro) for step in range(3) for micro in range(2)]
    for step, micro in ((2, 1), (0, 0), (1, 1)):
        again = other.batch(step, micro)
        assert_same(again.source, forward[2 * step + micro].source)
        assert_same(again.target, forward[2 * step + micro].target)


def test_two_ranks_match_one_with_doubled_batch(source: Table, target: Table) -> None:
    alone = stream(source, target, batch_size=16, gradient_accumulation_steps=2, strong_views=True)
    ranks = [
        stream(
            source,
            target,
            batch_size=8,
            gradient_accumulation_steps=2,
            strong_views=True,
            rank=rank,
            world_size=2,
        )
        for rank in range(2)
    ]
    whole = alone.batch(3, 1)
    halves = [rank.batch(3, 1) for rank in ranks]
    for side in ("source", "target"):
        for name, value in vars(getattr(whole, side)).items():
            parts = torch.cat([getattr(getattr(half, side), name) for half in halves])
            torch.testing.assert_close(parts, value, atol=1e-4, rtol=1e-5)


def test_micro_batches_of_a_step_are_disjoint(source: Table) -> None:
    batches = stream(source, batch_size=10, gradient_accumulation_steps=3, balance="none")
    rows = torch.cat([batches.batch(0, micro).source.index for micro in range(3)])
    assert len(rows.unique()) == 30


def test_view_index_matches_its_rows(source: Table, target: Table) -> None:
    batch = stream(source, target, augmentation=None).batch(4)
    rows = batch.source.index.numpy()
    assert np.array_equal(batch.source.labels.numpy(), source.labels[rows])
    assert np.array_equal(batch.source.domains.numpy(), source.domains[rows])
    expected = normalize(source.batch(rows), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert torch.equal(batch.source.inputs, expected)
    assert batch.target is not None
    assert not hasattr(batch.target, "labels")
    assert int(batch.target.index.max()) < len(target)


def test_progress_is_fraction_of_completed_steps(source: Table) -> None:
    assert [stream(source).batch(step).progress for step in (0, 5, 9)] == [0.0, 0.5, 0.9]


def test_strong_view_shows_same_cells_with_larger_changes(source: Table) -> None:
    gentle = replace(NO_CHANGE, brightness=0.01)
    view = stream(source, augmentation=gentle, strong_views=True).batch(0).source
    assert view.strong is not None
    plain = stream(source, augmentation=None).batch(0).source.inputs
    weak, strong = (
        v.mean((1, 2, 3)) / plain.mean((1, 2, 3)) - 1 for v in (view.inputs, view.strong)
    )
    assert 0 < weak.abs().max() <= 0.01
    assert 0.01 < strong.abs().max() <= 0.02
    assert stream(source).batch(0).source.strong is None


def test_classes_of_domains_are_sampled_equally(source: Table) -> None:
    num_cells = len({*zip(source.labels.tolist(), source.domains.tolist(), strict=True)})
    view = stream(source, batch_size=2 * num_cells).batch(0).source
    cells = view.labels + NUM_CLASSES * view.domains
    assert cells.unique(return_counts=True)[1].tolist() == [2] * num_cells


def test_target_domains_are_sampled_equally(source: Table) -> None:
    targets = [images("c", 40, 2, labeled=False), images("d", 10, 3, labeled=False)]
    batch = stream(source, concatenate(targets), batch_size=20).batch(0)
    assert batch.target is not None
    assert batch.target.domains.bincount().tolist() == [10, 10]


def test_seeds_and_sides_draw_differently(source: Table) -> None:
    first = stream(source, source, balance="none").batch(0)
    assert first.target is not None
    assert not torch.equal(first.source.index, first.target.index)
    second = stream(source, source, balance="none", seed=1).batch(0)
    assert not torch.equal(first.source.index, second.source.index)


def test_each_step_augments_differently(source: Table) -> None:
    single = Table(
        source.chunks[:1], np.zeros(50, np.int64), np.zeros(50, np.int64), ["x"] * 50, ("a",)
    )
    batches: list[Batch] = [stream(single, batch_size=50).batch(step) for step in range(2)]
    ordered = [batch.source.inputs[batch.source.index.argsort()] for batch in batches]
    assert not torch.isclose(ordered[0], ordered[1]).all(dim=(1, 2, 3)).any()


def test_features_are_passed_unchanged() -> None:
    features = np.random.default_rng(0).normal(size=(22, 5)).astype(np.float32)
    table = feature_table(features, np.arange(22) % 11, ["x"] * 22, "a")
    view = stream(table, table).batch(0).source
    assert np.array_equal(view.inputs.numpy(), features[view.index.numpy()])
    assert view.strong is None


def test_strong_view_of_features_applies_dropout() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(44, 50)).astype(np.float32)
    table = feature_table(features, np.arange(44) % 11, ["x"] * 44, "a")
    made = stream(table, table, strong_views=True, batch_size=44)
    batch = made.batch(0)
    assert batch.target is not None
    for view in (batch.source, batch.target):
        assert np.array_equal(view.inputs.numpy(), features[view.index.numpy()])
        assert view.strong is not None
        is_kept = view.strong != 0
        assert is_kept.float().mean().item() == pytest.approx(0.8, abs=0.03)
        torch.testing.assert_close(view.strong[is_kept], view.inputs[is_kept] / 0.8)
    assert batch.source.strong is not None and batch.target.strong is not None
    assert not torch.equal(batch.source.strong == 0, batch.target.strong == 0)
    later = made.batch(1).source.strong
    assert later is not None and not torch.equal(batch.source.strong == 0, later == 0)


def test_two_ranks_apply_dropout_of_one_with_doubled_batch() -> None:
    features = np.random.default_rng(0).normal(size=(44, 5)).astype(np.float32)
    table = feature_table(features, np.arange(44) % 11, ["x"] * 44, "a")
    whole = stream(table, strong_views=True, batch_size=16).batch(2).source.strong
    ranks = (stream(table, strong_views=True, rank=rank, world_size=2) for rank in range(2))
    halves = [rank.batch(2).source.strong for rank in ranks]
    assert whole is not None and halves[0] is not None and halves[1] is not None
    assert torch.equal(whole, torch.cat([halves[0], halves[1]]))


def test_second_phase_draws_target_batches_independently(source: Table, target: Table) -> None:
    made, again = (
        stream(source, target, strong_views=True, gradient_accumulation_steps=2) for _ in range(2)
    )
    batch = made.target_batch(3, 4, 1)
    assert batch.progress == 0.75
    assert not hasattr(batch, "source")
    assert_same(batch.target, again.target_batch(3, 99, 1).target)
    first = made.batch(3, 1).target
    assert first is not None
    assert not torch.equal(first.index, batch.target.index)
    assert batch.target.inputs.shape == (8, 3, 8, 8)


def test_second_phase_covers_all_target_images(source: Table, target: Table) -> None:
    made = stream(source, target, batch_size=5, gradient_accumulation_steps=2)
    rows = [
        made.target_batch(step, 3, micro).target.index for step in range(3) for micro in range(2)
    ]
    assert torch.cat(rows).sort().values.tolist() == list(range(30))


def test_two_ranks_share_target_batches_of_second_phase(source: Table, target: Table) -> None:
    whole = stream(source, target, batch_size=16).target_batch(1, 2).target
    halves = [
        stream(source, target, rank=rank, world_size=2).target_batch(1, 2).target
        for rank in range(2)
    ]
    assert torch.equal(whole.index, torch.cat([half.index for half in halves]))
    inputs = torch.cat([half.inputs for half in halves])
    torch.testing.assert_close(inputs, whole.inputs, atol=1e-4, rtol=1e-5)


def test_unpaired_target_appears_only_in_second_phase(source: Table, target: Table) -> None:
    made = stream(source, target, pair_target=False)
    assert made.batch(0).target is None
    assert_same(made.target_batch(0, 1).target, stream(source, target).target_batch(0, 1).target)


def test_unlabeled_sources_are_refused(source: Table, target: Table) -> None:
    with pytest.raises(ValueError, match="30 source rows of c are unlabeled"):
        stream(target, balance="none")


def test_sides_of_different_shapes_are_refused(source: Table) -> None:
    features = feature_table(np.zeros((4, 5)), np.zeros(4), ["x"] * 4, "a")
    said = r"source rows have shape \(8, 8, 3\), but target rows \(5,\)"
    with pytest.raises(ValueError, match=said):
        stream(source, features)


def test_invalid_augmentation_is_refused(source: Table) -> None:
    with pytest.raises(ValueError, match=r"augmentation\.hue is 2"):
        stream(source, augmentation=Augmentation(hue=2.0))


def test_every_domain_is_normalized_by_its_own_statistics(source: Table, target: Table) -> None:
    preprocessing = {
        name: ImagePreprocessing((0.1 * step,) * 3, (0.2 + step,) * 3)
        for step, name in enumerate(("a", "b", "c"))
    }
    batch = stream(source, target, augmentation=None, preprocessing=preprocessing).batch(1)
    assert batch.target is not None
    for table, view in ((source, batch.source), (target, batch.target)):
        cells = table.batch(view.index.numpy())
        for row, domain in enumerate(view.domains.tolist()):
            how = preprocessing[table.domain_names[domain]]
            expected = normalize(cells[row : row + 1], how.mean, how.std)
            assert torch.equal(view.inputs[row : row + 1], expected)


def test_only_source_images_shift_toward_target(source: Table, target: Table) -> None:
    shifted = replace(NO_CHANGE, target_shift=1.0)
    moved = stream(
        source, target, augmentation=shifted, style_targets=[target], batch_size=40
    ).batch(0)
    still = stream(source, target, augmentation=None, batch_size=40).batch(0)
    assert_same(moved.target, still.target)
    assert not torch.equal(moved.source.inputs, still.source.inputs)
    end = torch.tensor(color_statistics(target).mean, dtype=torch.float32)
    for domain in (0, 1):
        rows = moved.source.domains == domain
        before, after = (
            (view.source.inputs[rows].mean((0, 2, 3)) - end).norm() for view in (still, moved)
        )
        assert after < before


def test_target_shift_without_target_is_refused(source: Table) -> None:
    with pytest.raises(ValueError, match="name one with --target"):
        stream(source, augmentation=replace(NO_CHANGE, target_shift=0.5))


def views(num: int = 3) -> Table:
    """Return features of views: that of view v of row r is [r, v] + 1."""
    rows, numbers = np.meshgrid(np.arange(22) + 1, np.arange(num) + 1, indexing="ij")
    features = np.stack([rows, numbers], -1).astype(np.float32)
    return feature_table(features, np.arange(22) % 11, ["x"] * 22, "a")


def test_each_step_draws_one_view_per_image() -> None:
    loader = stream(views(), views(), augmentation=None, strong_views=True)
    batches = [loader.batch(step) for step in range(10)]
    for view in (side for batch in batches for side in (batch.source, batch.target)):
        assert view is not None and view.strong is not None and view.inputs.shape == (8, 2)
        torch.testing.assert_close(view.inputs[:, 0], view.index.float() + 1)
    for drawn in (
        torch.cat([batch.source.inputs[:, 1] for batch in batches]),
        torch.cat([batch.source.strong[:, 1] for batch in batches]) * 0.8,  # type: ignore[index]
    ):
        counts = drawn[drawn > 0].round().long().bincount(minlength=4)
        assert counts[0] == 0 and counts[1:].min() > 10
    assert not all(torch.equal(b.source.inputs[:, 1], batches[0].source.inputs[:, 1])
                   for b in batches)  # fmt: skip


def test_two_ranks_draw_views_of_one_with_doubled_batch() -> None:
    alone = stream(views(), augmentation=None, strong_views=True, batch_size=8).batch(3).source
    halves = [
        stream(views(), augmentation=None, strong_views=True, batch_size=4, rank=rank, world_size=2)
        .batch(3)
        .source
        for rank in range(2)
    ]
    torch.testing.assert_close(torch.cat([half.inputs for half in halves]), alone.inputs)
    assert alone.strong is not None
    strong = [half.strong for half in halves if half.strong is not None]
    torch.testing.assert_close(torch.cat(strong), alone.strong)


def test_labeled_target_rows_come_in_both_phases_without_side_effects(
    source: Table, target: Table
) -> None:
    rows, labels = np.array([3, 7, 20]), np.array([1, 1, 5])
    labeled = target.take(rows, labels)
    config = {"batch_size": 8, "num_steps": 10, "augmentation": STRENGTH}
    plain = stream(source, target, **config)
    one = BatchLoader(source, target, LoaderConfig(**config), labeled=labeled)
    batch, before = one.batch(2), plain.batch(2)
    assert_same(batch.source, before.source)
    assert_same(batch.target, before.target)
    assert before.labeled is None and batch.labeled is not None
    assert batch.labeled.labels.tolist() == labels[batch.labeled.index].tolist()
    assert np.bincount(batch.labeled.labels, minlength=6)[[1, 5]].tolist() == [4, 4]  # balanced
    second = one.target_batch(2, 4)
    assert second.labeled is not None and second.labeled.labels.shape == (8,)
    assert_same(second.target, plain.target_batch(2, 4).target)
    ranks = [
        BatchLoader(
            source, target, LoaderConfig(**{**config, "batch_size": 4}, rank=rank, world_size=2),
            labeled=labeled,
        ).batch(2).labeled
        for rank in (0, 1)
    ]  # fmt: skip
    joined = torch.cat([each.inputs for each in ranks if each is not None])
    assert torch.equal(joined, batch.labeled.inputs)

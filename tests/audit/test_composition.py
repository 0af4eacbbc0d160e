"""Class counts and the distances between them."""

import pytest

from hf_wbc.audit.composition import (
    appearances,
    class_counts,
    group_by_domain,
    missing_in_splits,
    prior_distances,
)


def test_cells_are_counted_by_folder_split_and_class(make_reading):
    reading = make_reading([0, 0, 9, -1, 9], folder=[0, 0, 0, 0, 1], split=[0, 2, 0, 0, 1])
    counts = class_counts(reading)
    assert counts.shape == (2, 3, 11) and counts.sum() == 4
    assert counts[0, 0, 0] == counts[0, 2, 0] == counts[0, 0, 9] == counts[1, 1, 9] == 1
    assert group_by_domain(reading)["a"]["basophil"] == 2
    assert missing_in_splits(reading, 0) == {
        "monocyte": (1, ["test"]),  # validation has no images at all
    }


def test_unlabeled_domain_has_no_counts(make_reading):
    reading = make_reading([0, -1], folder=[0, 1])
    assert list(group_by_domain(reading)) == ["a"]
    assert not prior_distances(reading)


def test_total_variation_is_half_the_sum_of_differences(make_reading):
    reading = make_reading([0, 0, 1, 1, 1, 2], folder=[0, 0, 0, 0, 1, 1])
    assert prior_distances(reading)["a", "b"] == pytest.approx((0.5 + 0 + 0.5) / 2)


def test_each_frame_size_has_a_row_when_scale_is_known(make_reading):
    sizes = [(360, 363)] * 3 + [(366, 369)]
    rows = appearances(make_reading([0] * 4, size_px=sizes))
    assert [(row.frame_px, row.number) for row in rows] == [
        (None, 4),
        ((360, 363), 3),
        ((366, 369), 1),
    ]
    assert rows[0].contrast == (0.75, 1.5, 2.25)
    (only,) = appearances(make_reading([0] * 4, size_px=sizes, um_per_px=None))
    assert only.frame_px is None

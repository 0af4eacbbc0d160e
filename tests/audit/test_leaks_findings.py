"""Declared findings are reported as known, all others as new."""

import pytest

from hf_wbc.audit.confounds import confound_findings
from hf_wbc.audit.leaks import (
    DuplicateGroups,
    duplicate_findings,
    find_duplicate_groups,
    shared_between,
)
from hf_wbc.preparation.source import Finding, require_declared, with_declaration


def _found(reading, duplicates):
    return {(f.kind, f.status): f for f in duplicate_findings(reading, duplicates)}


def _repeats(identical=(), overlapping=(), same_cell=()):
    return DuplicateGroups(tuple(identical), tuple(overlapping), frozenset(same_cell))


def test_copy_in_another_split_is_undeclared(make_reading):
    reading = make_reading([1, 1, 2], split=[0, 2, 1], digests=["x", "x", "y"])
    found = _found(reading, find_duplicate_groups(reading))
    assert list(found) == [("identical_across_splits", "undeclared")]
    assert found["identical_across_splits", "undeclared"].rows == ((0, 1),)


def test_copies_in_provenance_are_declared_and_others_not(make_reading):
    reading = make_reading(
        [1, 1, 2, 2],
        digests=["x", "x", "y", "y"],
        provenance={"identical": [["cell_1", "cell_0"]]},
    )
    found = _found(reading, find_duplicate_groups(reading))
    assert found["identical", "declared"].rows == ((0, 1),)
    assert found["identical", "undeclared"].rows == ((2, 3),)


def test_declared_copy_in_another_split_is_still_undeclared(make_reading):
    noted = {"identical": [["cell_0", "cell_1"]]}
    reading = make_reading([1, 1], split=[0, 1], digests=["x", "x"], provenance=noted)
    assert list(_found(reading, find_duplicate_groups(reading))) == [
        ("identical_across_splits", "undeclared")
    ]


def test_train_only_image_with_two_labels_is_declared(make_reading):
    digests = ["x", "x", "y", "y", "z", "z"]
    reading = make_reading(
        [1, 2, 3, 4, 5, -1], digests=digests, provenance={"train_only": ["cell_0", "cell_1"]}
    )
    found = _found(reading, find_duplicate_groups(reading))
    assert found["two_labels", "declared"].rows == ((0, 1),)
    assert found["two_labels", "undeclared"].rows == ((2, 3),)


def test_two_labels_are_reported_only_for_the_same_cell(make_reading):
    reading = make_reading([1, 2, 3, 4])
    duplicates = _repeats(overlapping=[(0, 1), (2, 3)], same_cell=[(0, 1)])
    found = _found(reading, duplicates)
    assert found["two_labels", "undeclared"].rows == ((0, 1),)
    assert found["overlapping", "undeclared"].number == 2


def test_one_scene_in_two_splits_is_undeclared(make_reading):
    reading = make_reading([1, 2], split=[0, 2])
    assert list(_found(reading, _repeats(overlapping=[(0, 1)]))) == [
        ("overlapping_across_splits", "undeclared")
    ]


def test_patient_in_two_splits_is_undeclared(make_reading):
    reading = make_reading([1, 1, 2], split=[0, 2, 1], groups=["p1", "p1", "p2"])
    found = _found(reading, find_duplicate_groups(reading))
    assert "1 of 2 groups" in found["group_across_splits", "undeclared"].title


def test_same_patient_name_in_two_datasets_is_two_patients(make_reading):
    reading = make_reading([1, 1], folder=[0, 1], split=[0, 2], groups=["p1", "p1"])
    assert not _found(reading, find_duplicate_groups(reading))


def test_images_shared_by_datasets_are_counted_and_labels_compared(make_reading):
    reading = make_reading([1, 1, 2, 1], folder=[0, 0, 1, 1], digests=["x", "y", "x", "y"])
    duplicates = find_duplicate_groups(reading)
    (shared,) = shared_between(reading, duplicates)
    assert shared.domains == ("a", "b") and shared.identical == ((0, 2), (1, 3))
    found = _found(reading, duplicates)
    assert set(found) == {("shared_between_datasets", "undeclared"), ("two_labels", "undeclared")}
    assert found["two_labels", "undeclared"].rows == ((0, 2),)


def test_frames_of_different_size_are_reported_with_their_classes(make_reading):
    sizes = [(360, 363)] * 8 + [(366, 369)] * 2
    (found,) = [
        f
        for f in confound_findings(make_reading([0, 1] * 4 + [9, 9], size_px=sizes), {})
        if f.kind == "frame_sizes"
    ]
    assert found.number == 2 and "366 × 369 px (2)" in found.title
    assert "monocyte 2" in found.meaning


def test_frames_without_scale_may_have_any_size(make_reading):
    sizes = [(30 + i, 40) for i in range(6)]
    reading = make_reading([0, 1] * 3, size_px=sizes, um_per_px=None)
    assert "frame_sizes" not in {f.kind for f in confound_findings(reading, {})}


def test_class_missing_from_a_split_is_expected_only_if_rare(make_reading):
    reading = make_reading([0, 0, 0, 1, 1, 2, 2, 2], split=[0, 0, 1, 0, 1, 0, 1, 2])
    found = {f.status: f for f in confound_findings(reading, {}) if "missing" in f.kind}
    assert found["undeclared"].title == "missing: basophil (3 in total) in test"
    assert found["expected"].title == "missing: eosinophil (2 in total) in test"


def test_declaration_applies_only_to_its_own_domain():
    finding = Finding(
        kind="frame_sizes", domains=("a",), number=1, title="t", meaning="m", remedy="r"
    )
    known = with_declaration(finding, {"a": {"frame_sizes": "Two sessions."}})
    assert (known.status, known.declared) == ("declared", "Two sessions.")
    assert with_declaration(finding, {"b": {"frame_sizes": "Two sessions."}}) == finding
    assert with_declaration(finding, {"a": {"identical": "Copies."}}) == finding


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"frame_size": "x"}, "unknown finding 'frame_size'; did you mean 'frame_sizes'"),
        ({"frame_sizes": " "}, "declaration of frame_sizes is empty"),
    ],
)
def test_invalid_declaration_is_refused(declared, message):
    with pytest.raises(ValueError, match=message):
        require_declared(declared)

"""A laboratory on the page: answers are saved at once, and readers are kept apart."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.laboratory import Laboratory, label_id, label_of_id, unique_names
from hf_wbc.app.uploads import UploadedImage
from hf_wbc.data.labels_file import OTHER, SKIP, LabelsFile, read_answers
from hf_wbc.data.reader_agreement import cohen_kappa
from hf_wbc.labeling.learner import Learner
from hf_wbc.taxonomy import NAMES
from tests.support.shifted_laboratory import laboratory as shifted
from tests.support.shifted_laboratory import source_head


def opened(path: Path | None = None) -> Laboratory:
    pool = shifted(60)
    learner = Learner(pool, source_head())
    file = None
    if path is not None:
        file = LabelsFile(path)
        learner.tell_answers(file.answers)
    squares = {name: np.zeros((8, 8, 3), np.uint8) for name in pool.image_ids}
    found = Laboratory(learner, squares, file, reader="AB")
    found.next_batch()
    return found


def number(laboratory: Laboratory, name: str) -> int:
    return laboratory.learner.pool.image_ids.index(name) + 1


def test_every_label_has_a_unique_id() -> None:
    labels = [*NAMES, OTHER, SKIP]
    assert [label_of_id(label_id(label)) for label in labels] == labels
    assert len({label_id(label) for label in labels}) == len(labels)


def test_every_answer_is_saved_at_once_and_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "my_lab" / "labels.csv"
    laboratory = opened(path)
    one, other = laboratory.batch[:2]
    laboratory.save({number(laboratory, one): label_id("monocyte")})
    assert [(a.image_id, a.label, a.reader) for a in read_answers(path)] == [
        (one, "monocyte", "AB")
    ]
    laboratory.save({number(laboratory, one): label_id("basophil")})
    laboratory.save({number(laboratory, other): label_id(SKIP)})
    assert {a.image_id: a.label for a in read_answers(path)} == {one: "basophil", other: SKIP}
    assert laboratory.learner.labels == {one: NAMES.index("basophil")}
    laboratory.save({number(laboratory, one): None})
    assert [a.image_id for a in read_answers(path)] == [other]
    assert laboratory.learner.labels == {} and laboratory.learner.answered == {other}


def test_killed_browser_or_server_loses_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    first = opened(path)
    for name in first.batch[:4]:
        first.save({number(first, name): label_id("monocyte")})
    again = opened(path)
    assert len(again.learner.labels) == 4 and not set(again.batch) & set(first.batch[:4])
    assert set(again.shown) == {*first.batch[:4], *again.batch}


def test_next_batch_keeps_unanswered_cells() -> None:
    laboratory = opened()
    left = laboratory.batch[3:]
    for name in laboratory.batch[:3]:
        laboratory.save({number(laboratory, name): label_id("monocyte")})
    assert not laboratory.is_batch_done
    laboratory.next_batch()
    assert laboratory.batch[: len(left)] == left and len(laboratory.batch) == 10


def test_second_reader_labels_the_same_cells() -> None:
    laboratory = opened()
    first = list(laboratory.batch)
    for place, name in enumerate(first):
        laboratory.save({number(laboratory, name): label_id(NAMES[8 + place % 2])})
    laboratory.read_as("CD", is_second=True)
    assert set(laboratory.batch) == set(first) and laboratory.own == {}
    for place, name in enumerate(first):
        wrong = place == 0
        laboratory.save({number(laboratory, name): label_id(NAMES[8 + (place + wrong) % 2])})
    assert len(laboratory.learner.answers) == 20 and laboratory.learner.conflicts == [first[0]]
    kappa, num = cohen_kappa(laboratory.learner.answers)["AB", "CD"]
    assert num == 10 and kappa == pytest.approx(0.8)
    laboratory.read_as("AB", is_second=False)
    assert set(laboratory.own) == set(first)


def test_unknown_cell_number_is_refused() -> None:
    laboratory = opened()
    with pytest.raises(ValueError, match="reload"):
        laboratory.save({61: 1})


def test_images_with_the_same_name_are_kept_apart() -> None:
    rng = np.random.default_rng(0)
    pictures = [
        UploadedImage(name, rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        for name in ("a.png", "b.png", "a.png")
    ]
    names = unique_names(pictures)
    assert len(names) == 3 and "b.png" in names
    assert {each.digest for each in names.values()} == {each.digest for each in pictures}
    assert unique_names(pictures[::-1]).keys() == names.keys()

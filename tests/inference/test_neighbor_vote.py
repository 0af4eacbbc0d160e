"""The vote of the nearest reference cells is weighted by similarity and balanced by class."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.neighbors import KNeighborsClassifier

from hf_wbc.data.image_statistics import measure_source_appearance
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.inference.gallery import Gallery, ReferenceSet
from hf_wbc.inference.neighbor_vote import LEAST, TEMPERATURE, NeighborVote, make_vote
from hf_wbc.taxonomy import NUM_CLASSES


def make_gallery(features: NDArray[Any], labels: list[int]) -> Gallery:
    """Return reference cells of one source."""
    num = len(labels)
    return Gallery(
        features=unit_rows(np.asarray(features, np.float32)),
        labels=np.array(labels, np.int64),
        sources=("home",) * num,
        image_ids=tuple(f"{number}.png" for number in range(num)),
        thumbnails=(None,) * num,
        appearance=measure_source_appearance(np.ones((num, 7)), np.array(["home"] * num)),
    )


def shares(vote: NeighborVote, *cells: list[float]) -> NDArray[np.float64]:
    return np.asarray(softmax(vote.logits(np.array(cells, np.float32)).astype(np.float64), axis=1))


def test_vote_matches_sklearn_on_a_balanced_bank() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 3, 7], 40).tolist()
    gallery = make_gallery(rng.normal(size=(120, 8)) + np.eye(8)[labels], labels)
    cells = rng.normal(size=(300, 8)).astype(np.float32)
    theirs = KNeighborsClassifier(
        9, metric="cosine", weights=lambda distances: np.exp((1 - distances) / TEMPERATURE)
    ).fit(gallery.features, gallery.labels)
    expected = np.zeros((300, NUM_CLASSES))
    expected[:, theirs.classes_] = theirs.predict_proba(cells)
    found = NeighborVote(gallery, 9).logits(cells)
    np.testing.assert_allclose(softmax(found.astype(float), axis=1), expected, atol=11 * LEAST)
    assert np.isfinite(found).all() and len(np.unique(found.argmax(1))) == 3


def test_classes_count_equally_whatever_their_number_of_cells() -> None:
    near, far = [1.0, 0.0], [0.0, 1.0]
    gallery = make_gallery(np.array([near] * 2 + [far] * 4 + [near] + [far] * 2), [1] * 6 + [2] * 3)
    (found,) = shares(NeighborVote(gallery, 3), near)
    assert found[[1, 2]] == pytest.approx([0.5, 0.5], abs=1e-4)


def test_one_cell_of_a_class_outvotes_others_only_where_it_lies() -> None:
    odd = [0.9, 0.1]
    gallery = make_gallery(np.array([[1.0, 0.0]] * 10 + [odd]), [1] * 10 + [2])
    vote = NeighborVote(gallery, 11)
    (found,) = shares(vote, [1.0, 0.0])
    assert found.argmax() == 1
    separate = make_gallery(np.array([[1.0, 0.0]] * 10 + [[0.5, 0.5]]), [1] * 10 + [2])
    (found,) = shares(NeighborVote(separate, 11), [0.5, 0.5])
    assert found.argmax() == 2


@pytest.mark.parametrize(
    ("num_neighbors", "has_gallery", "said"),
    [
        (0, True, "at least 1"),
        (-3, True, "at least 1"),
        (4, True, "4 neighbors .* 3 reference cells"),
        (1, False, "hf-wbc reference runs/RUN/model"),
    ],
)
def test_impossible_votes_are_refused(num_neighbors: int, has_gallery: bool, said: str) -> None:
    gallery = make_gallery(np.eye(3), [0, 1, 2]) if has_gallery else None
    with pytest.raises(ValueError, match=said):
        make_vote("runs/RUN/model", ReferenceSet(gallery), num_neighbors)


def test_facts_tell_other_banks_apart() -> None:
    labels = [0, 1, 1]
    facts = make_vote("model", ReferenceSet(make_gallery(np.eye(3), labels)), 2).to_dict()
    assert facts["per_class"] == 2 and facts["num_cells"] == 3 and facts["sources"] == ["home"]
    for gallery in (make_gallery(np.eye(3)[::-1], labels), make_gallery(np.eye(3), [0, 1, 2])):
        assert NeighborVote(gallery, 2).to_dict()["sha256"] != facts["sha256"]


def test_reference_cells_cannot_be_scored() -> None:
    vote = NeighborVote(make_gallery(np.eye(3), [0, 1, 2]), 1)

    class Split(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.image_ids)

    others: Any = Split(name="home", split="test", image_ids=("9.png",))
    elsewhere: Any = Split(name="away", split="test", image_ids=("1.png",))
    vote.require_other_cells([others, elsewhere])
    own: Any = Split(name="home", split="train", image_ids=("1.png", "9.png"))
    with pytest.raises(ValueError, match="1 of the 2 cells in home, train"):
        vote.require_other_cells([others, own])

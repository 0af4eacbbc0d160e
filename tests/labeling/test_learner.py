"""The learner: choices, answers, prediction, and errors for every misuse."""

import time

import numpy as np
import pytest

from hf_wbc.data.labels_file import Answer
from hf_wbc.labeling.estimate import random_order
from hf_wbc.labeling.learner import Learner
from hf_wbc.labeling.pool import Pool, answers_of
from hf_wbc.taxonomy import NAMES
from tests.support.shifted_laboratory import MONOCYTE, laboratory, source_head


def learner(pool: Pool | None = None, **options: object) -> Learner:
    return Learner(laboratory() if pool is None else pool, source_head(), **options)  # type: ignore[arg-type]


def taught(num: int, **options: object) -> Learner:
    found = learner(**options)
    while len(found.answered) < num:
        found.tell_answers(answers_of(found.pool, found.next(10)))
    return found


def test_fifty_labels_raise_score_on_new_cells() -> None:
    found, new = taught(50), laboratory(400, seed=9)
    names = [NAMES[label] for label in new.labels]
    before = Learner(found.pool, source_head(), adapts=False).score(new.features, names)
    assert found.score(new.features, names) > before + 0.1


def test_no_cell_is_offered_twice() -> None:
    found = learner(laboratory(60))
    offered: list[str] = []
    while found.num_left:
        batch = found.next(min(7, found.num_left))
        found.tell(batch, ["skip"] * len(batch))
        offered += batch
    assert len(offered) == 60 == len(set(offered))
    assert found.labels == {}


def test_part_of_each_batch_is_in_random_order() -> None:
    found = learner(random_share=0.3)
    order = [found.pool.image_ids[row] for row in random_order(found.pool.image_ids)]
    assert set(order[:3]) <= set(found.next(10))
    assert set(learner(random_share=1.0).next(10)) == set(order[:10])


def test_choice_depends_on_seed() -> None:
    assert learner(seed=3).next(10) == learner(seed=3).next(10) != learner(seed=4).next(10)


def test_learner_follows_sklearn_conventions() -> None:
    found = taught(30)
    assert found.fit() is found
    p = found.predict_proba()
    assert p.shape == (240, 11) and np.allclose(p.sum(1), 1)
    assert (found.predict() == found.classes_[p.argmax(1)]).all()
    assert (found.predict(found.pool.features[:5]) == found.predict()[:5]).all()


def test_later_answer_of_a_reader_replaces_earlier() -> None:
    found = learner()
    first = found.pool.image_ids[0]
    found.tell(first, "monocyte").tell(first, "basophil")
    assert found.labels == {first: NAMES.index("basophil")}
    found.tell(first, found.pool.labels.dtype.type(MONOCYTE), reader="CD")
    assert found.labels == {} and found.conflicts == [first]
    found.forget(Answer(first, "monocyte", "CD"))
    assert found.labels == {first: NAMES.index("basophil")}


def test_misuse_is_reported() -> None:
    found = learner(laboratory(20))
    for num in (0, 21):
        with pytest.raises(ValueError, match="20"):
            found.next(num)
    with pytest.raises(ValueError, match="another dataset"):
        found.tell(["elsewhere.png"], ["monocyte"])
    with pytest.raises(ValueError, match="elsewhere"):
        found.tell([found.pool.image_ids[0], "elsewhere.png"], ["monocyte"] * 2)
    with pytest.raises(ValueError, match="monocyte"):
        found.tell(found.pool.image_ids[0], "monocite")
    with pytest.raises(ValueError, match="-1"):
        found.tell(found.pool.image_ids[0], -1)  # unlabeled, not the last class
    with pytest.raises(ValueError, match="1 labels for 2"):
        found.tell(list(found.pool.image_ids[:2]), ["monocyte"])
    assert not found.answered
    with pytest.raises(ValueError, match="random_share"):
        learner(random_share=1.5)


def test_held_out_cells_are_refused() -> None:
    pool = laboratory(20)
    held_out = Pool(**{**vars(pool), "held_out": frozenset({"test.png"})})
    with pytest.raises(ValueError, match="test cells"):
        learner(held_out).tell("test.png", "monocyte")


def test_estimates_show_improvement_over_source() -> None:
    found = taught(60)
    estimates = found.estimate()
    assert estimates is not None
    after, before = estimates
    assert before.macro_f1 < after.macro_f1
    assert after.interval[0] < after.macro_f1 < after.interval[1]
    assert set(after.recalls) == {NAMES[label] for label in found.pool.labels}
    assert found.calibration() is not None and found.learning_curve() is not None
    assert learner().estimate() is None


@pytest.mark.slow
def test_choosing_from_100_000_cells_takes_under_two_seconds() -> None:
    rng = np.random.default_rng(0)
    small, num, width = laboratory(100), 100_000, 1280
    head = source_head()
    head = head._replace(weight=np.pad(head.weight, ((0, 0), (0, width - head.weight.shape[1]))))
    features = rng.normal(size=(num, width)).astype(np.float32)
    pool = Pool(
        "large", tuple(map(str, range(num))), features, np.zeros((num, 11), np.float32),
        rng.choice(small.labels, num), np.zeros((num, 7)),
    )  # fmt: skip
    found = Learner(pool, head)
    found.tell_answers(answers_of(pool, found.next(25)))  # the embedding is computed once
    start = time.process_time()
    found.next(10)
    assert time.process_time() - start < 2


def test_scikit_learn_takes_a_learner_for_a_classifier() -> None:
    from sklearn.base import is_classifier
    from sklearn.exceptions import NotFittedError
    from sklearn.metrics import get_scorer
    from sklearn.utils.validation import check_is_fitted

    pool = laboratory(200)
    found = Learner(pool, source_head())
    found.tell_answers(answers_of(pool, found.next(60)))
    with pytest.raises(NotFittedError):
        check_is_fitted(found)
    assert found.fit() is found and is_classifier(found)
    check_is_fitted(found)
    true = found.classes_[pool.labels]
    accuracy = (found.predict(pool.features) == true).mean()
    assert get_scorer("accuracy")(found, pool.features, true) == pytest.approx(accuracy)
    assert accuracy > 0.9 and found.score(pool.features, true.tolist()) > 0.9
    p = found.predict_proba(pool.features)
    assert p.shape == (200, len(found.classes_))
    assert (found.classes_[p.argmax(1)] == found.predict(pool.features)).all()

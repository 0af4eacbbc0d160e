"""The worst mistakes come first, and only better-informed models cast doubt on a label."""

import numpy as np
import pytest

from hf_wbc.comparison.report.images import ScoredImages
from hf_wbc.comparison.report.mistakes import PER_CONFUSION, label_suspects, worst_mistakes
from hf_wbc.taxonomy import NUM_CLASSES, Consequence, Relation, class_id

MYELOCYTE, METAMYELOCYTE = class_id("myelocyte"), class_id("metamyelocyte")
BLAST = class_id("myeloblast")
MONOCYTE, LYMPHOCYTE = class_id("monocyte"), class_id("lymphocyte_typical")


def scored(labels, predicted, confidence) -> ScoredImages:
    labels, predicted = np.array(labels), np.array(predicted)
    p = np.repeat(((1 - np.array(confidence)) / (NUM_CLASSES - 1))[:, None], NUM_CLASSES, 1)
    p[np.arange(len(labels)), predicted] = confidence
    return ScoredImages([f"{i:03}.png" for i in range(len(labels))], labels, predicted, p)


def test_distant_confusion_ranks_before_more_confident_near_one():
    images = scored(
        [MYELOCYTE, MONOCYTE, MONOCYTE, MONOCYTE],
        [METAMYELOCYTE, LYMPHOCYTE, MONOCYTE, MYELOCYTE],
        [0.99, 0.4, 0.9, 0.5],
    )
    found = worst_mistakes(images, 10)
    assert [each.image_id for each in found] == ["003.png", "001.png", "000.png"]
    assert [each.relation for each in found] == [Relation.CROSS_LINEAGE] * 2 + [Relation.ONE_STEP]
    assert found[0].confidence == 0.5


def test_missed_blast_ranks_before_false_alarm_and_another_lineage():
    images = scored(
        [BLAST, LYMPHOCYTE, MONOCYTE, MYELOCYTE],
        [LYMPHOCYTE, BLAST, LYMPHOCYTE, METAMYELOCYTE],
        [0.3, 0.9, 0.95, 0.99],
    )
    found = worst_mistakes(images, 10)
    assert [each.image_id for each in found] == ["000.png", "002.png", "001.png", "003.png"]
    assert found[0].consequence is Consequence.CRITICAL


def test_one_kind_of_mistake_does_not_hide_others():
    num = PER_CONFUSION + 2
    images = scored([MONOCYTE] * num + [MYELOCYTE], [LYMPHOCYTE] * num + [METAMYELOCYTE],
                    [0.9] * num + [0.3])  # fmt: skip
    found = worst_mistakes(images, 10)
    assert [each.label for each in found] == [MONOCYTE] * PER_CONFUSION + [MYELOCYTE]
    assert len(worst_mistakes(images, 2)) == 2


def test_label_contradicted_confidently_by_all_models_is_suspect():
    labels = [MONOCYTE] * 10 + [LYMPHOCYTE] * 10
    predicted = [*labels]
    predicted[3] = LYMPHOCYTE
    sure = scored(labels, predicted, [0.8] * 20)
    found = label_suspects({"dann": [sure, sure], "coral": [sure]})
    (suspect,) = found.found
    assert (suspect.image_id, suspect.label, suspect.consensus) == ("003.png", MONOCYTE, LYMPHOCYTE)
    assert (suspect.agreement, suspect.p_consensus) == (1, pytest.approx(0.8))
    assert (found.num_models, found.accuracy, found.credible) == (3, 0.95, True)


def test_unsure_or_disagreeing_models_make_no_suspect():
    labels = [MONOCYTE] * 10 + [LYMPHOCYTE] * 10
    wrong = [LYMPHOCYTE, *labels[1:]]
    unsure = scored(labels, wrong, [0.5] + [0.8] * 19)
    assert label_suspects({"dann": [unsure]}).found == ()
    sure, right = scored(labels, wrong, [0.99] * 20), scored(labels, labels, [0.6] * 20)
    assert label_suspects({"dann": [sure], "coral": [right]}).found == ()


def test_methods_count_equally_regardless_of_number_of_seeds():
    labels = [MONOCYTE] * 10 + [LYMPHOCYTE] * 10
    wrong = scored(labels, [LYMPHOCYTE, *labels[1:]], [0.9] * 20)
    right = scored(labels, labels, [0.9] * 20)
    many = label_suspects({"dann": [wrong] * 9, "coral": [right]})
    assert many.found == ()


def test_mostly_wrong_models_are_not_credible():
    labels = [MONOCYTE] * 10
    assert not label_suspects({"dann": [scored(labels, [LYMPHOCYTE] * 10, [0.9] * 10)]}).credible


def test_runs_on_different_images_are_rejected():
    one, other = scored([MONOCYTE], [MONOCYTE], [0.9]), scored([MYELOCYTE], [MONOCYTE], [0.9])
    with pytest.raises(ValueError, match="different images"):
        label_suspects({"dann": [one], "coral": [other]})

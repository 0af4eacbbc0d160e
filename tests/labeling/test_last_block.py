"""LP-FT of the last block: it learns what a probe cannot, stays within the guard, and is saved."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_wbc.data.preprocessing import preprocess
from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.inference.options import PredictOptions
from hf_wbc.labeling.few_shot import LinearFewShotHead
from hf_wbc.labeling.last_block import LAST_BLOCK, TunedNetwork, cut_for_pool, tune
from hf_wbc.labeling.learner import Learner
from hf_wbc.labeling.pool import Ids, Pool, open_pool
from hf_wbc.labeling.summary import describe
from hf_wbc.models import PretrainedModel, load_classifier, load_trained, save_classifier
from hf_wbc.taxonomy import NAMES, NUM_CLASSES
from tests.models.conftest import write_checkpoint
from tests.support.shifted_laboratory import laboratory, source_head

MONOCYTE, SEGMENTED = NAMES.index("monocyte"), NAMES.index("neutrophil_segmented")
OPTIONS = PredictOptions(cell_fills_frame=True, runtime="torch", num_proc=1)
Laboratory = tuple[PretrainedModel, Pool]


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """Return a random ResNet, and cells whose class is whether their halves differ in color."""
    folder = tmp_path_factory.mktemp("halves")
    rng = np.random.default_rng(0)
    for number in range(120):
        left, right = rng.integers(0, 2, 2)
        pixels = rng.integers(90, 166, (40, 40, 3))
        pixels[:, :20, 0] += 60 * (2 * left - 1)
        pixels[:, 20:, 0] += 60 * (2 * right - 1)
        path = folder / "cells" / NAMES[MONOCYTE if left != right else SEGMENTED]
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path / f"{number:03}.png")
    loaded = load_classifier(str(write_checkpoint(folder / "resnet", "resnet")))
    save_classifier(loaded.classifier, loaded.processor, folder / "model")
    return open_pool(str(folder / "model"), str(folder / "cells"), OPTIONS, folder / "cache")


def labeled(halves: Laboratory, num: int = 60, head: str = LAST_BLOCK) -> Learner:
    pretrained, pool = halves
    learner = Learner.of_model(pretrained, pool, head=head)
    names = learner.next(num)
    return learner.tell(names, pool.labels[pool.rows(names)].tolist())


def start(pool: Pool, pretrained: PretrainedModel) -> tuple[Ids, LinearFewShotHead]:
    weight = np.random.default_rng(1).normal(size=(NUM_CLASSES, pool.features.shape[1]))
    head = LinearFewShotHead(weight, np.where(np.arange(NUM_CLASSES) % 2, 0.0, NEVER))
    return np.where(np.arange(40) % 2, 1, 3).astype(np.int64), head


@pytest.mark.slow
@pytest.mark.ci
def test_tuned_block_learns_what_a_probe_cannot(halves: Laboratory) -> None:
    true = halves[1].labels
    tuned, probe = labeled(halves).fit(), labeled(halves, head="logistic").fit()
    right = [(each.decision_function().argmax(1) == true).mean() for each in (tuned, probe)]
    assert tuned.adaptation.family == LAST_BLOCK and right[0] > right[1] + 0.05
    assert "tuned the last block" in tuned.adaptation.sentences[-1]
    assert tuned.learning_curve() is None and "macro-F1 with labels" in "\n".join(describe(tuned))
    with pytest.raises(ValueError, match="leave them out"):
        tuned.predict(halves[1].features)


@pytest.mark.slow
@pytest.mark.ci
def test_saved_network_matches_learner(halves: Laboratory, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    pretrained, pool = halves
    learner = labeled(halves)
    folder = learner.save(tmp_path / "adapted")
    saved = load_trained(str(folder))
    assert saved.abstention is not None and saved.exposed_to == ("cells",)
    assert pool.images is not None
    pixels = np.stack(list(pool.images.read(pool.image_ids).values()))
    images = preprocess(torch.from_numpy(pixels), pool.images.preprocessing)
    with torch.no_grad():
        logits = saved.classifier.eval()(images).logits
        plain = AutoModelForImageClassification.from_pretrained(folder).eval()(images).logits
    assert torch.equal(logits, plain)
    own, temperature = learner.decision_function(), saved.abstention["temperature"]
    assert np.allclose(logits.numpy(), own / temperature, atol=1e-3)
    assert not np.allclose(pretrained.classifier(images).logits.detach(), logits, atol=0.1)


@pytest.mark.slow
@pytest.mark.ci
def test_block_that_is_not_shown_to_gain_stays(
    halves: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = labeled(halves, head="logistic").adaptation
    monkeypatch.setattr("hf_wbc.labeling.last_block.LEARNING_RATE", 0.0)
    found = labeled(halves).adaptation
    assert found.family == probe.family == "logistic"
    assert (found.held_out_logits == probe.held_out_logits).all()
    assert "linear probe" in found.sentences[-1] and "stays" in found.sentences[-1]


@pytest.mark.slow
@pytest.mark.ci
def test_seed_decides_everything_and_the_model_does_not_change(halves: Laboratory) -> None:
    pretrained, pool = halves
    before = {name: value.clone() for name, value in pretrained.classifier.state_dict().items()}
    network = cut_for_pool(pretrained, pool)
    inputs = network.inputs(pool.image_ids[:40])
    labels, head = start(pool, pretrained)
    first, same, other = (
        list(tune(network, inputs, labels, head, (2, 5), seed))[-1] for seed in (0, 0, 1)
    )
    changed = [not torch.equal(first.weights[name], network.start[name]) for name in network.start]
    assert all(changed)
    assert all(torch.equal(first.weights[name], same.weights[name]) for name in network.start)
    assert any(not torch.equal(first.weights[name], other.weights[name]) for name in network.start)
    after = pretrained.classifier.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    absent = head.bias == NEVER
    assert (first.head.bias[absent] == NEVER).all()
    assert (first.head.weight[absent] == head.weight[absent].astype(np.float32)).all()


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(("num", "is_open"), [(2, False), (3, True)])
def test_three_labels_open_an_absent_class(
    halves: Laboratory, num: int, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_wbc.labeling.adapt.GUARD", -1e9)
    learner = labeled(halves, 40)
    bias = learner.source.bias.copy()
    bias[0] = NEVER
    learner.source = learner.source._replace(bias=bias)
    names = list(learner.labels)
    learner.tell(names[:num], [0] * num)
    head = learner.fit().adaptation.head
    assert isinstance(head, TunedNetwork) and (head.head.bias[0] > NEVER / 2) == is_open


@pytest.mark.slow
@pytest.mark.ci
def test_few_labels_change_nothing(halves: Laboratory) -> None:
    learner = labeled(halves, 7)
    assert not learner.adaptation.is_adapted and "at least" in learner.adaptation.sentences[-1]


def test_features_alone_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"features only.*hf_wbc\.label\(.*logistic"):
        Learner(laboratory(30), source_head(), head=LAST_BLOCK)

"""Every loss can be imported and called on its own with plain tensors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.adaptation.losses import SupervisedLoss, entropy, prior_divergence
from hf_wbc.adaptation.methods.adamatch import adamatch_loss
from hf_wbc.adaptation.methods.afn import afn_loss
from hf_wbc.adaptation.methods.bnm import bnm_loss
from hf_wbc.adaptation.methods.coral import coral_loss
from hf_wbc.adaptation.methods.dan import mmd
from hf_wbc.adaptation.methods.dann import domain_adversarial_loss, domain_logits
from hf_wbc.adaptation.methods.eata import eata_loss, eata_weights
from hf_wbc.adaptation.methods.fixmatch import fixmatch_loss
from hf_wbc.adaptation.methods.group_dro import group_dro_loss
from hf_wbc.adaptation.methods.irm import irm_penalty, scale_gradients
from hf_wbc.adaptation.methods.jan import joint_mmd
from hf_wbc.adaptation.methods.mcc import mcc_loss
from hf_wbc.adaptation.methods.mdd import mdd_loss
from hf_wbc.adaptation.methods.mean_teacher import consistency_loss
from hf_wbc.adaptation.methods.mic import mic_loss
from hf_wbc.adaptation.methods.mixstyle import mix_style
from hf_wbc.adaptation.methods.mstn import mstn_loss
from hf_wbc.adaptation.methods.multi_coral import multi_coral_loss
from hf_wbc.adaptation.methods.pseudo_label import pseudo_label_loss
from hf_wbc.adaptation.methods.shot import pseudo_labels, shot_loss
from hf_wbc.adaptation.methods.tent import tent_loss
from hf_wbc.adaptation.methods.vrex import vrex_penalty

torch.manual_seed(0)
NUM, NUM_CLASSES, WIDTH = 12, 11, 5
F_S, F_T = torch.randn(NUM, WIDTH), torch.randn(NUM, WIDTH)
Z_S, Z_T = torch.randn(NUM, NUM_CLASSES), torch.randn(NUM, NUM_CLASSES)
P_S, P_T = Z_S.softmax(1), Z_T.softmax(1)
LABELS = torch.randint(NUM_CLASSES, (NUM,))
DOMAINS = torch.arange(NUM) % 2
UNIFORM = torch.full((NUM_CLASSES,), 1 / NUM_CLASSES)
CENTROIDS = torch.randn(2, NUM_CLASSES, WIDTH)
COUNTS = torch.full((2, NUM_CLASSES), 9)

LOSSES: dict[str, Callable[[], Tensor]] = {
    "supervised": lambda: SupervisedLoss(COUNTS, 1.0, 0.5)(Z_S, LABELS, DOMAINS).mean(),
    "entropy": lambda: entropy(Z_T).mean(),
    "prior_divergence": lambda: prior_divergence(P_T, UNIFORM),
    "adamatch": lambda: adamatch_loss(Z_T, 9 * Z_T, Z_S, 0.9)[0],
    "afn": lambda: afn_loss(F_T.norm(dim=1), 1.0),
    "bnm": lambda: bnm_loss(P_T),
    "coral": lambda: coral_loss(F_S, F_T),
    "dan": lambda: mmd(F_S, F_T),
    "dann": lambda: domain_adversarial_loss(
        *domain_logits(nn.Sequential(nn.Linear(WIDTH, 1), nn.Flatten(0)), F_S, F_T, 1.0)
    ),
    "eata": lambda: eata_loss(Z_T, eata_weights(Z_T, torch.zeros(NUM_CLASSES), 2.0, 0.4)),
    "fixmatch": lambda: fixmatch_loss(Z_T, 9 * Z_T, 0.5)[0],
    "group_dro": lambda: group_dro_loss(torch.rand(3), torch.full((3,), 1 / 3), 0.01)[0],
    "irm": lambda: irm_penalty(scale_gradients(Z_S, LABELS), DOMAINS, 2),
    "jan": lambda: joint_mmd(F_S, P_S, F_T, P_T),
    "mcc": lambda: mcc_loss(Z_T),
    "mdd": lambda: mdd_loss(Z_S, 2 * Z_S, Z_T, -Z_T, gamma=4.0),
    "mean_teacher": lambda: consistency_loss(Z_T, Z_S),
    "mic": lambda: mic_loss(Z_T, Z_S),
    "mixstyle": lambda: mix_style(
        torch.randn(4, 3, 8, 8), torch.tensor([1, 0, 3, 2]), torch.full((4,), 0.5)
    ).mean(),
    "mstn": lambda: mstn_loss(CENTROIDS, CENTROIDS[0] + 1, torch.ones(2, NUM_CLASSES)),
    "multi_coral": lambda: multi_coral_loss(F_S, DOMAINS, 2),
    "pseudo_label": lambda: pseudo_label_loss(Z_T, Z_T, 0.1)[0],
    "shot": lambda: shot_loss(Z_T, pseudo_labels(F_T, P_T), UNIFORM)[0],
    "tent": lambda: tent_loss(Z_T),
    "vrex": lambda: vrex_penalty(torch.rand(NUM), DOMAINS, 2),
}
WITHOUT_OWN_LOSS = {
    "adabn", "ema", "iw_coral", "iw_dan", "iw_dann", "source_only", "stain_augmentation",
    "strong_augmentation", "swad", "target_stats", "cdan", "lda", "lda_standardized",
    "prototypes", "prototypes_standardized",
}  # fmt: skip
"""Methods that train no weights, only set the configuration, or reuse another method's loss."""


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_plain_tensors_is_a_finite_scalar(name: str) -> None:
    value = LOSSES[name]()
    assert value.shape == () and torch.isfinite(value)


def test_every_method_with_its_own_loss_is_covered() -> None:
    assert set(LOSSES) | WITHOUT_OWN_LOSS >= set(method_names())
    assert all(load_method(name) for name in WITHOUT_OWN_LOSS)

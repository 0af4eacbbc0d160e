"""A class matrix shows every count and share of every domain."""

import pytest

from hf_wbc.plots.class_distribution import draw_class_matrix
from hf_wbc.taxonomy import NAMES

COUNTS = {
    "toy_a": {"basophil": 1168, "eosinophil": 3067, "monocyte": 1},
    "toy_b": {"basophil": 15, "neutrophil_segmented": 8484},
}


def test_every_count_and_share_is_shown(legible):
    words = legible(draw_class_matrix(COUNTS))
    for text in ("1,168", "27.6%", "3,067", "72.4%", "1", "<0.1%", "15", "0.2%", "8,484", "99.8%"):
        assert text in words
    assert {"toy_a", "toy_b", "4,236", "8,499"} <= set(words)


def test_last_column_is_the_sum_of_domains(legible):
    words = legible(draw_class_matrix(COUNTS))
    assert {"all", "1,183", "12,735"} <= set(words)
    assert "all" not in legible(draw_class_matrix({"toy_a": COUNTS["toy_a"]}))


def test_class_missing_from_a_domain_is_blank(legible):
    words = legible(draw_class_matrix({"toy": {"basophil": 2}}))
    assert words.count("–") == len(NAMES) - 1
    assert "0" not in words


@pytest.mark.parametrize("counts", [{"toy": {}}, {"toy": {"monocyte": 10}}, {"a": {}, "b": {}}])
def test_nearly_empty_domains_can_be_drawn(legible, counts):
    assert set(counts) <= set(legible(draw_class_matrix(counts)))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no domain"),
        ({"toy": {"monocite": 1}}, "did you mean 'monocyte'"),
        ({"toy": {"monocyte": -1}}, "toy has -1 images of monocyte"),
    ],
)
def test_bad_counts_are_reported(counts, message):
    with pytest.raises(ValueError, match=message):
        draw_class_matrix(counts)

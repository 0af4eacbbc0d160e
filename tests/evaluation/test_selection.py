"""A selection rule sees what it says it sees."""

import pytest

from hf_wbc.evaluation.selection import RULES, rule


def evaluation(step, **macro_f1):
    return {"step": step, "source_val": {name: {"macro_f1": f} for name, f in macro_f1.items()}}


def test_source_val_prefers_the_better_mean_over_the_sources():
    value = rule("source_val").value
    assert value(evaluation(1, a=0.5, b=0.9)) == pytest.approx(0.7)
    assert value(evaluation(1, a=0.8, b=0.8)) > value(evaluation(2, a=0.5, b=0.9))


def test_last_prefers_the_later_evaluation():
    value = rule("last").value
    assert value(evaluation(200, a=0.1)) > value(evaluation(100, a=0.9))


def test_no_rule_so_far_sees_the_target():
    assert {each.sees for each in RULES} == {"no target"}


def test_names_are_unique():
    assert len({each.name for each in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nope", "choose from source_val, last"), ("source_vall", "did you mean 'source_val'")],
)
def test_an_unknown_rule_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        rule(name)

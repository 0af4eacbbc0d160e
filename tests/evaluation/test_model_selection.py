"""A selection rule reads only what it declares."""

import pytest

from hf_wbc.evaluation.model_selection import (
    RULES,
    criterion_values,
    require_selection_rule,
    selection_rule,
)

NONE = {"has_target": False, "has_held_out": False, "oracle": False}
ALL = {"has_target": True, "has_held_out": True, "oracle": True}


def evaluation(step, **macro_f1):
    return {"step": step, "source_val": {name: {"macro_f1": f} for name, f in macro_f1.items()}}


def full(step):
    """Return an evaluation with a different value for every rule."""
    names = [each.name for each in RULES if each.sees == "unlabeled target"]
    return {
        "step": step,
        "source_val": {"a": {"macro_f1": 0.1}, "b": {"macro_f1": 0.3}},
        "held_out": {"c": {"macro_f1": 0.4}},
        "unlabeled": {
            "t": {name: 10.0 + i for i, name in enumerate(names)},
            "u": {name: 30.0 + i for i, name in enumerate(names)},
        },
        "oracle": {"t": {"macro_f1": 0.5}, "u": {"macro_f1": 0.7}},
    }


def test_source_val_prefers_better_mean_over_sources():
    value = selection_rule("source_val").value
    assert value(evaluation(1, a=0.5, b=0.9)) == pytest.approx(0.7)
    assert value(evaluation(1, a=0.8, b=0.8)) > value(evaluation(2, a=0.5, b=0.9))


def test_last_prefers_later_evaluation():
    value = selection_rule("last").value
    assert value(evaluation(200, a=0.1)) > value(evaluation(100, a=0.9))


def test_every_rule_averages_over_its_domains():
    found = criterion_values(full(7))
    assert found.pop("source_val") == pytest.approx(0.2)
    assert found.pop("last") == 7
    assert found.pop("held_out") == pytest.approx(0.4)
    assert found.pop("oracle") == pytest.approx(0.6)
    assert list(found.values()) == [20.0 + i for i in range(len(found))]


@pytest.mark.parametrize("each", RULES, ids=lambda each: each.name)
def test_rule_reads_only_what_it_declares(each):
    seen = {"no target": [], "unlabeled target": ["unlabeled"], "target labels": ["oracle"]}
    row = full(3)
    kept = {"step", "source_val", "held_out", *seen[each.sees]}
    assert each.value({part: row[part] for part in row if part in kept}) == each.value(row)
    if each.sees != "no target":
        assert each.value({part: row[part] for part in row if part not in seen[each.sees]}) is None


def test_rule_has_no_value_when_one_domain_lacks_it():
    row = full(1)
    del row["unlabeled"]["u"]["im_prior"]
    assert selection_rule("im_prior").value(row) is None
    assert selection_rule("im").value(row) is not None
    assert "im_prior" not in criterion_values(row)


def test_only_the_oracle_sees_target_labels():
    assert [each.name for each in RULES if each.sees == "target labels"] == ["oracle"]


def test_names_are_unique():
    assert len({each.name for each in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nope", "choose from source_val, last"), ("source_vall", "did you mean 'source_val'")],
)
def test_unknown_rule_is_reported(name, message):
    with pytest.raises(ValueError, match=message):
        selection_rule(name)


@pytest.mark.parametrize("each", RULES, ids=lambda each: each.name)
def test_rule_is_refused_exactly_when_requirements_are_missing(each):
    require_selection_rule(each, **ALL)
    if each.name in ("source_val", "last"):
        require_selection_rule(each, **NONE)
    else:
        with pytest.raises(ValueError, match=f"selection {each.name} (requires|uses) .* --"):
            require_selection_rule(each, **NONE)


@pytest.mark.parametrize(
    ("name", "lacking", "remedy"),
    [
        ("im", "has_target", "requires target images; name them with --target"),
        ("held_out", "has_held_out", "name them with --held-out"),
        (
            "oracle",
            "oracle",
            "target labels, so its score is not a valid result; request it .* --oracle",
        ),
        ("oracle", "has_target", "--target"),
    ],
)
def test_refusal_names_the_remedy(name, lacking, remedy):
    with pytest.raises(ValueError, match=remedy):
        require_selection_rule(selection_rule(name), **{**ALL, lacking: False})

"""Methods are found by file name and validate their own options."""

import pytest

from hf_wbc.adaptation import Method, load_method, method_names


@pytest.mark.parametrize("name", method_names())
def test_method_states_its_paper_and_limitations(name: str) -> None:
    method = load_method(name)
    assert issubclass(method, Method)
    assert method.paper and method.limitations.endswith(".")
    assert method.parse({}) == method.Options()


def test_unknown_method_suggests_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'source_only'"):
        load_method("source_onyl")


def test_unknown_option_lists_known_ones() -> None:
    with pytest.raises(ValueError, match="source_only has no option nope; its options are: none"):
        load_method("source_only").parse({"nope": 1})

"""Methods are found by file name and validate their own options."""

import pytest

from hf_wbc.adaptation import Method, load_method, method_names


@pytest.mark.parametrize("name", method_names())
def test_a_method_says_what_it_is(name: str) -> None:
    method = load_method(name)
    assert issubclass(method, Method)
    assert method.paper and method.limitations.endswith(".")
    assert method.parse({}) == method.Options()


def test_an_unknown_method_is_met_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'source_only'"):
        load_method("source_onyl")


def test_an_unknown_option_is_met_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="source_only has no option nope; its options are: none"):
        load_method("source_only").parse({"nope": 1})

"""The cards in model_cards/rendered match current output; `hub_cards.py` regenerates them."""

import re

import pytest
import yaml
from huggingface_hub import RepoCard
from support import hub_cards as cards

from hf_wbc.hub.publication import TAG


@pytest.mark.parametrize("name", cards.CARDS)
def test_rendered_card_matches_published_card(name: str) -> None:
    there = cards.rendered(name).read_text(encoding="utf-8")
    assert cards.published(name) == there, "python tests/support/hub_cards.py"


def test_every_rendered_card_is_compared() -> None:
    folder = cards.rendered("model").parent
    assert {path.name for path in folder.iterdir()} == {f"{name}.md" for name in cards.CARDS}


@pytest.mark.parametrize("name", cards.CARDS)
def test_front_matter_parses_and_no_placeholder_remains(name: str) -> None:
    text = cards.published(name)
    front = yaml.safe_load(text.split("---\n")[1])
    assert front and RepoCard(text).data.to_dict().keys() >= {"tags"} & front.keys()
    body = text.split("---\n", 2)[2]
    for trace in (TAG, "{{", "{%", "\n\n\n\n", "None"):
        assert trace not in body


@pytest.mark.parametrize("name", ["model", "dataset", "comparison"])
def test_snippet_is_pinned_to_the_tag(name: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", cards.published(name), re.DOTALL)
    assert code.count('revision="v1"') == 1

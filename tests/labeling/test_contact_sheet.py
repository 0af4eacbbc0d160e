"""The page to label on: complete without a network, with hidden suggestions and escaped names."""

import re
from pathlib import Path

import numpy as np

from hf_wbc.data.labels_file import OTHER, SKIP
from hf_wbc.labeling.contact_sheet import KEYS, write_sheet
from hf_wbc.taxonomy import NAMES


def test_every_label_has_a_key_of_its_own() -> None:
    assert set(KEYS.values()) == {*NAMES, OTHER, SKIP}
    assert "u" not in KEYS and "q" not in KEYS  # undo and stop


def test_the_page_shows_every_cell_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a" / "sheet.html"
    names = ["b.png", 'a"><script>.png', "c.png"]
    squares = {name: np.full((28, 28, 3), 200, np.uint8) for name in names}
    write_sheet(path, "my lab", squares, {"b.png": "monocyte 80%"}, out="l.csv", reader="AB")
    page = path.read_text()
    shown = re.findall(r'data-id="([^"]*)"', page)
    assert shown[0] == "b.png" and shown[2] == "c.png" and len(shown) == 3
    assert "<script>.png" not in page and page.count("data:image/jpeg") == 3
    assert 'value="AB"' in page and "monocyte 80%" in page and 'class="suggest"' not in page
    assert not re.search(r'(src|href)="(?!data:)', page)

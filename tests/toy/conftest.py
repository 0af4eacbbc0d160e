"""Tiny toy archives, drawn once."""

from pathlib import Path

import pytest

from hf_wbc.toy.archives import draw_archives


@pytest.fixture(scope="session")
def toy_archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return draw_archives(tmp_path_factory.mktemp("toy"), seed=0, size="tiny", num_proc=1)

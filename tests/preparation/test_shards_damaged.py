"""The note of a finished shard can be damaged, by a power cut for example."""

from pathlib import Path

import pytest

from hf_wbc.preparation.shards import Shard, find_written


@pytest.mark.parametrize("note", ["", "{", "[1]", "{}", '{"other": 1}', "\x00\x00"])
def test_shard_with_damaged_note_is_written_again(tmp_path: Path, note: str) -> None:
    shard = Shard("train", 0, 1, ())
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / f"{shard.name}.json").write_text(note)
    assert find_written(tmp_path, shard) is None

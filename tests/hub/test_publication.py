"""Destinations: a repository is never confused with a folder."""

from pathlib import Path

import pytest
from support.hub_publications import CARD, CELLS, small

from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.publication import Publication, PublishFolder, parse_destination
from hf_wbc.hub.publish import publish


@pytest.mark.parametrize("to", ["lab/cells", "hf://lab/cells", "hf://datasets/lab/cells"])
def test_repository_is_org_and_name(to: str) -> None:
    assert parse_destination(to, "dataset") == CELLS


@pytest.mark.parametrize("to", ["./lab/cells", "/data/cells", "cells", "a/b/c", "../cells"])
def test_other_paths_are_folders(to: str) -> None:
    assert isinstance(parse_destination(to, "dataset"), PublishFolder)


def test_ambiguous_destination_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    with pytest.raises(ValueError, match=r"write \./lab/cells for a folder, or hf://lab/cells"):
        parse_destination("lab/cells", "dataset")
    for wrong in ("hf://cells", "hf://lab/ce--lls", "lab/cells@v1", ""):
        with pytest.raises(ValueError, match="org/name"):
            parse_destination(wrong, "dataset")


def test_folder_with_other_files_and_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.docx").write_text("")
    with pytest.raises(ValueError, match="contains files that `hf-wbc publish` did not write"):
        publish(small(), PublishFolder(tmp_path / "home"))
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.docx"]
    with pytest.raises(ValueError, match=r"thesis\.docx is a file"):
        publish(small(), PublishFolder(tmp_path / "home/thesis.docx"))


@pytest.mark.parametrize("tag", ["", "a b", "main", "../x", "v1.lock", "-x"])
def test_invalid_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="--tag is"):
        check_publication(Publication("dataset", {"README.md": CARD}, False, "Publish", tag))

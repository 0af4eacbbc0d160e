"""A published dataset yields the same cells when loaded with plain `datasets`."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import LoopbackHub

LOAD = """
import hashlib, json, sys
import datasets, numpy as np
from datasets import load_dataset

datasets.config.USE_PARQUET_EXPORT = False  # another host, which it waits for in vain

answers = []
for repo, revision, streaming, token in json.loads(sys.argv[1]):
    found = {}
    for config in ("original", "cropped"):
        try:
            sets = load_dataset(
                repo, config, revision=revision, streaming=streaming, token=token
            )
        except datasets.exceptions.DatasetNotFoundError as error:
            found = {"error": str(error)}
            continue
        for split, rows in sets.items():
            for row in rows:
                pixels = np.asarray(row["image"])
                assert hashlib.sha256(pixels.tobytes()).hexdigest() == row["pixel_sha256"]
                name = rows.features["label"].int2str(row["label"])
                key = f"{config}/{split}/{row['image_id']}"
                found[key] = [row["pixel_sha256"], name, row["um_per_px"], row["domain"]]
    answers.append(found)
assert not [name for name in sys.modules if name.startswith("hf_wbc")]
print(json.dumps(answers))
"""
"""Code of a user who has `datasets` but not hf_wbc."""
Rows = dict[str, list[Any]]


def load(env: dict[str, str], *what: tuple[str, str | None, bool, str | bool]) -> list[Rows]:
    """Load both configs per (repository, revision, streaming, token), in another process.

    If the token has no access, the error takes the place of the rows.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, json.dumps(what)],
        env={**env, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    found: list[Rows] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow  # test_build.py reads a folder without hf_wbc, too
@pytest.mark.ci
def test_both_configs_of_two_datasets_round_trip(
    published: Any,
    open_lab: Any,
    closed_lab: Any,
    client_env: Callable[..., dict[str, str]],
    hub: LoopbackHub,
) -> None:
    for lab, repo in ((open_lab, "lab/wbc-open"), (closed_lab, "lab/wbc-closed")):
        status, words = published(*lab.words, "--to", repo)
        assert status == 0, words
        assert f"{repo} v1 is " in words
    assert not hub.repo("dataset", "lab/wbc-open").facts["private"]
    assert hub.repo("dataset", "lab/wbc-closed").facts["private"]
    open_here, whole, streamed, closed_here, refused, closed = load(
        client_env(None, home="nobody"),
        (str(open_lab.folder), None, False, False),
        ("lab/wbc-open", "v1", False, False),
        ("lab/wbc-open", "v1", True, False),
        (str(closed_lab.folder), None, False, False),
        ("lab/wbc-closed", "v1", False, "hf_bob"),  # first: what is cached is loaded for anyone
        ("lab/wbc-closed", "v1", False, "hf_reader"),
    )
    assert len(open_here) == 2 * 3 * 8
    assert whole == streamed == open_here
    assert closed == closed_here
    assert "doesn't exist on the Hub or cannot be accessed" in refused["error"]


@pytest.mark.slow
@pytest.mark.ci
def test_folder_serves_same_data_and_tags_are_immutable(
    published: Any, open_lab: Any, closed_lab: Any, client_env: Any, tmp_path: Path
) -> None:
    share = tmp_path / "share/cells"
    status, words = published(*closed_lab.words, "--to", str(share))
    assert status == 0, words
    places = (str(closed_lab.folder), str(share), f"{share}@v1")
    here, head, tagged = load(client_env(None), *((place, None, False, False) for place in places))
    assert head == tagged == here
    card = closed_lab.folder / "README.md"
    card.write_text(card.read_text() + "\nMore was learned.\n")
    assert published(*closed_lab.words, "--to", str(share))[0] == 0
    assert "More was learned" in (share / "README.md").read_text()
    assert "More was learned" in Path(f"{share}@v2/README.md").read_text(encoding="utf-8")
    assert "More was learned" not in Path(f"{share}@v1/README.md").read_text(encoding="utf-8")


def test_existing_files_are_not_sent_and_repetition_is_a_no_op(
    published: Any, open_lab: Any, hub: LoopbackHub
) -> None:
    assert published(*open_lab.words, "--to", "lab/cells")[0] == 0
    repo = hub.repo("dataset", "lab/cells")
    first = repo.refs("heads"), repo.refs("tags")
    hub.log.clear()
    assert published(*open_lab.words, "--to", "lab/cells")[0] == 0
    assert (repo.refs("heads"), repo.refs("tags")) == first
    assert not hub.sent("PUT") and not hub.sent("POST", "/commit/")
    card = open_lab.folder / "README.md"
    card.write_text(card.read_text() + "\nMore was learned.\n")
    assert published(*open_lab.words, "--to", "lab/cells")[0] == 0
    assert not hub.sent("PUT"), "the shards were there"
    assert list(repo.refs("tags")) == ["v1", "v2"]
    assert len(list(repo.history("main"))) == 3, "the Hub's own commit, and one for each"


def test_dry_run_lists_files_and_visibility_and_writes_nothing(
    published: Any, open_lab: Any, closed_lab: Any, hub: LoopbackHub, tmp_path: Path
) -> None:
    for lab, seen in ((open_lab, "EVERYONE"), (closed_lab, "its owners only")):
        status, words = published(*lab.words, "--to", "lab/cells", "--dry-run")
        assert status == 0 and seen in words
        for path in lab.folder.rglob("*.parquet"):
            assert f"{path.stat().st_size:,}" in words
            assert path.relative_to(lab.folder).as_posix() in words
        assert words.count("  send  ") == 11 and "11 files" in words and ".hf_wbc.json" in words
        assert " eval.yaml" in words
    status, words = published(*open_lab.words, "--to", str(tmp_path / "new/cells"), "--dry-run")
    assert status == 0 and "everyone who can read the folder" in words
    assert not (tmp_path / "new").exists()
    assert not (hub.store.root / "datasets").exists()
    assert {r.path for r in hub.log if r.method != "GET"} == {"/api/validate-yaml"}


@pytest.mark.slow
@pytest.mark.ci
def test_removed_files_are_deleted_and_foreign_files_kept(
    published: Any, open_lab: Any, hub: LoopbackHub
) -> None:
    from huggingface_hub import HfApi

    assert published(*open_lab.words, "--to", "lab/cells")[0] == 0
    HfApi().upload_file(
        path_or_fileobj=b"ours", path_in_repo="notes.txt", repo_id="lab/cells", repo_type="dataset"
    )
    for file in (open_lab.folder / "original").iterdir():
        file.unlink()
    assert published(*open_lab.words, "--to", "lab/cells")[0] == 0
    names = hub.repo("dataset", "lab/cells").files("v2")
    assert "notes.txt" in names and "cropped/train-00000-of-00001.parquet" in names
    assert not [name for name in names if name.startswith("original/")]
    assert "original/train-00000-of-00001.parquet" in hub.repo("dataset", "lab/cells").files("v1")


@pytest.mark.slow
@pytest.mark.ci
def test_multipart_uploads_and_paged_listings(
    published: Any, open_lab: Any, hub: LoopbackHub
) -> None:
    hub.part_size, hub.page_size = 5000, 2
    assert published(*open_lab.words, "--to", "lab/cells", "--tag", "2026-11")[0] == 0
    repo = hub.repo("dataset", "lab/cells")
    for path in open_lab.folder.rglob("*.parquet"):
        name = path.relative_to(open_lab.folder).as_posix()
        assert repo.content("2026-11", name) == path.read_bytes()
    assert len(hub.sent("PUT", "/parts/")) > 6


@pytest.mark.skipif(
    not os.environ.get("HF_WBC_PREPARED_ACEVEDO_20"),
    reason="HF_WBC_PREPARED_ACEVEDO_20 does not say where the whole dataset lies, prepared",
)
@pytest.mark.slow
def test_complete_acevedo_20_round_trips(published: Any, client_env: Any, hub: LoopbackHub) -> None:
    folder = Path(os.environ["HF_WBC_PREPARED_ACEVEDO_20"])
    status, words = published("dataset", str(folder), "--to", "lab/wbc-acevedo-20")
    assert status == 0, words
    (rows,) = load(client_env(None), ("lab/wbc-acevedo-20", "v1", False))
    assert len(rows) == 2 * 14_291
    names = sorted({key.rpartition("/")[2] for key in rows})
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert digest == "90cdd0770028d2125dcd7533018857106ca6782e216c8b59a14c4ee08985b2fe"

"""Errors that would stop a push after training are raised before it, with the same message."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import LoopbackHub

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.engine.context import RunContext
from hf_wbc.hub.publication import Destination, parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_model import model_publication
from hf_wbc.hub.training_push import TrainingPush
from hf_wbc.preparation.source import ArchiveSpec

TO = parse_destination("lab/wbc-vit", "model")
Prepare = Callable[[LoopbackHub, Callable[[], str]], None]


def put(hub: LoopbackHub, path: str, content: bytes) -> None:
    """Commit a file directly, as another user."""
    repo = hub.repo("model", "lab/wbc-vit")
    repo.commit("main", {path: repo.add_blob(path, content)}, "By hand", "carol")


def make(hub: LoopbackHub, plural: str = "models", private: bool = True) -> None:
    hub.store.create(plural, "lab/wbc-vit", private=private, sdk="static", author="carol")


def with_file(path: str, content: bytes = b"theirs") -> Prepare:
    def prepare(hub: LoopbackHub, _: Callable[[], str]) -> None:
        make(hub)
        put(hub, path, content)

    return prepare


def edited(hub: LoopbackHub, publish_it: Callable[[], str]) -> None:
    publish_it()
    put(hub, "README.md", b"# Ask Dr. K.\n")


REFUSED: Mapping[str, tuple[str, Prepare, dict[str, Any], str]] = {
    "a public repository": (
        "alice", lambda hub, _: make(hub, private=False), {},
        "lab/wbc-vit is public, and this publication is private; choose another --to",
    ),
    "a tag that is there": (
        "alice", lambda _, publish_it: publish_it() and None, {"tag": "v1"},
        "v1 of lab/wbc-vit exists with other content",
    ),
    "a tag that is no name": ("alice", lambda *_: None, {"tag": "main"}, "--tag is 'main'"),
    "an unknown license": (
        "alice", lambda *_: None, {"license": "ours"}, '"license" must be one of',
    ),
    "a card edited by hand": (
        "alice", edited, {}, "README.md of lab/wbc-vit was edited there and would be overwritten",
    ),
    "somebody's own card": (
        "alice", with_file("README.md"), {}, "README.md of lab/wbc-vit was edited there",
    ),
    "somebody's own weights": (
        "alice", with_file("model.safetensors"), {},
        "contains model.safetensors with other content, which `hf-wbc publish` did not write",
    ),
    "weights that would be loaded": (
        "alice", with_file("pytorch_model.bin"), {}, "contains pytorch_model.bin, which `hf-wbc",
    ),
    "files that would not arrive": (
        "alice", with_file(".gitignore", b"# ours\n*.safetensors\n"), {},
        "the .gitignore of lab/wbc-vit excludes model.safetensors; delete it there",
    ),
    "another type": (
        "alice", lambda hub, _: make(hub, "datasets"), {}, "lab/wbc-vit is a dataset on the Hub",
    ),
    "a token without the right there": (
        "narrow", lambda hub, _: make(hub), {}, "403: Your token has no right to write to lab/wbc",
    ),
    "a token without the right to create": (
        "fine", lambda *_: None, {}, "403: Your token has no right to create a repository in lab",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.slow
@pytest.mark.ci
def test_push_is_refused_before_training_with_final_message(
    hub: LoopbackHub,
    log_in: Callable[[str | None], None],
    runs: Mapping[str, Path],
    case: str,
) -> None:
    who, prepare, options, words = REFUSED[case]

    def finish(**more: Any) -> str:
        return publish(model_publication(runs["vit"], TO, {}, **more), TO)

    prepare(hub, finish)
    log_in(who)
    with pytest.raises(ValueError) as before:
        TrainingPush(TO, {}, print, **options).begin(["lab_a", "lab_b"])
    assert words in str(before.value)
    if case == "a tag that is there":
        log_in("alice")
        put(hub, "note.txt", b"so that the tag's content is another")
        options = {**options, "license": "mit"}
    with pytest.raises(ValueError) as after:
        finish(**options)
    assert str(after.value).startswith(str(before.value))


@pytest.mark.parametrize("card", ["keep", "replace"])
@pytest.mark.slow
@pytest.mark.ci
def test_card_decision_applies_until_the_end(
    hub: LoopbackHub, runs: Mapping[str, Path], card: Any
) -> None:
    edited(hub, lambda: publish(model_publication(runs["vit"], TO, {}), TO))
    push = TrainingPush(TO, {}, print, card=card)
    push.begin(["lab_a"])
    push.finish(_folder(runs["vit"]))
    text = hub.repo("model", "lab/wbc-vit").content("main", "README.md").decode()
    assert ("Ask Dr. K." in text) == (card == "keep")


def test_repository_is_created_with_visibility_of_its_content(
    hub: LoopbackHub, labs: Mapping[str, ArchiveSpec]
) -> None:
    TrainingPush(TO, labs, print).begin(["lab_a", "unheard_of"])
    assert hub.repo("model", "lab/wbc-vit").facts["private"]
    other = parse_destination("lab/open", "model")
    TrainingPush(other, labs, print).begin(["lab_a"])
    assert not hub.repo("model", "lab/open").facts["private"]


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("shared", "shared is a file; choose another --to"),
        ("shared/mine.txt", "shared contains files that `hf-wbc publish` did not write"),
        ("shared@final/mine.txt", "shared@final exists with other content"),
    ],
)
def test_unusable_folder_is_reported_before_training(
    tmp_path: Path, there: str, message: str
) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    destination: Destination = parse_destination(str(tmp_path / "shared"), "model")
    with pytest.raises(ValueError, match=message):
        TrainingPush(destination, {}, print, tag="final").begin(["lab_a"])


def test_train_checks_push_before_embedding_or_training(
    hub: LoopbackHub,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(hub, private=False)

    def embed(_: object) -> None:
        raise AssertionError("it goes on")

    monkeypatch.setattr(RunContext, "embed_all", embed)
    words = [
        "--sources",
        *config.data.sources,
        "--model",
        config.model.name,
        "--out",
        str(tmp_path / "runs"),
    ]
    command = ["train", *words, "--push-to", "lab/wbc-vit"]
    assert main(command) == 1
    assert "is public, and this publication is private" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="it goes on"):
        main([*command, "--public"])
    assert not list(tmp_path.glob("runs/*/record.json"))


@pytest.mark.parametrize(
    "flags",
    [["--public"], ["--private"], ["--tag", "v1"], ["--license", "mit"], ["--card", "keep"]],
)
def test_publishing_flags_require_push_to(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--sources", "nowhere", *flags]) == 1
    assert f"{flags[0]}: nothing is published without --push-to" in capsys.readouterr().err


def _folder(path: Path) -> Any:
    from hf_wbc.records import RunFolder

    return RunFolder(path)

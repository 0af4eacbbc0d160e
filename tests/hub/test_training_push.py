"""A run trains from the Hub, pushes during training, resumes elsewhere, and is reproduced."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from hf_wbc.cli.main import main
from hf_wbc.cli.train import train
from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_dataset import dataset_publication
from hf_wbc.hub.publish_model import model_publication, published_config
from hf_wbc.hub.training_push import TrainingPush, branch_of
from hf_wbc.models import load_trained
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.records import RunFolder

TO = parse_destination("lab/wbc-vit", "model")


class Stopped(Exception):
    """Stands in for any machine failure."""


@pytest.fixture
def on_hub(
    hub: Any,
    config: TrainConfig,
    prepared: Mapping[str, Path],
    labs: Mapping[str, ArchiveSpec],
) -> TrainConfig:
    """Configure the run with Hub data: lab_a at a tag, lab_b at its current commit."""
    for name, folder in prepared.items():
        to = parse_destination(f"lab/{labs[name].repo}", "dataset")
        publish(dataset_publication(folder, labs[name], public=False), to)
    return config.replace(sources=("lab/wbc-lab-a@v1",), target=("lab/wbc-lab-b",))


@pytest.fixture
def said() -> list[str]:
    """Collect reported messages."""
    return []


@pytest.fixture
def push(labs: Mapping[str, ArchiveSpec], said: list[str]) -> Iterator[Callable[..., TrainingPush]]:
    """Build the pusher of a run; no upload outlives the test."""
    made: list[TrainingPush] = []

    def make(**options: Any) -> TrainingPush:
        made.append(TrainingPush(TO, labs, said.append, **options))
        return made[-1]

    yield make
    for each in made:
        if each._upload:
            each._upload.join()


def predictions(folder: RunFolder) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder.predictions).to_pylist()
    return rows


def test_record_contains_commit_of_training_data(
    on_hub: TrainConfig, runs: Mapping[str, Path], tmp_path: Path
) -> None:
    api = HfApi()
    (tag,) = api.list_repo_refs("lab/wbc-lab-a", repo_type="dataset").tags
    api.upload_file(
        path_or_fileobj=b"later", path_in_repo="NOTE.txt", repo_id="lab/wbc-lab-a",
        repo_type="dataset",
    )  # fmt: skip
    record = run(on_hub, tmp_path / "runs", tmp_path / "cache").read_record()
    source, target = record["sources"][0], record["target"][0]
    assert source["ref"] == "lab/wbc-lab-a@v1" and source["revision"] == tag.target_commit
    assert target["revision"] == api.dataset_info("lab/wbc-lab-b").sha
    local = RunFolder(runs["vit"]).read_record()  # trained on the folders
    for split in ("train", "validation", "test"):
        assert local["sources"][0][split] == source[split]
    assert local["results"] == record["results"]


@pytest.mark.slow
@pytest.mark.ci
def test_pushed_run_is_reproduced_from_the_hub(
    on_hub: TrainConfig, push: Callable[..., TrainingPush], tmp_path: Path
) -> None:
    keeper = push(public=False)
    first = run(on_hub, tmp_path / "runs", tmp_path / "cache", sync=keeper)
    keeper.finish(first)
    api = HfApi()
    refs = api.list_repo_refs("lab/wbc-vit")
    assert [tag.name for tag in refs.tags] == ["v1"]
    assert branch_of(first) in [branch.name for branch in refs.branches]
    files = api.list_repo_files("lab/wbc-vit", revision="v1")
    assert {"README.md", "record.json", "config.json", "model.safetensors"} <= set(files)
    assert not [name for name in files if name.startswith("checkpoint")]
    published = published_config("lab/wbc-vit@v1")
    commit = first.read_record()["sources"][0]["revision"]
    assert published.data.sources == (f"lab/wbc-lab-a@{commit}",)
    model = ["--model", on_hub.model.name]  # it was a local folder
    out = ["--out", str(tmp_path / "anew"), "--cache", str(tmp_path / "cache")]
    assert main(["train", "--config", "lab/wbc-vit@v1", *model, *out]) == 0
    again = RunFolder(tmp_path / "anew" / first.path.name)
    assert predictions(again) == predictions(first)


def test_flags_override_published_configuration(
    runs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainConfig] = []

    def note(config: TrainConfig, *_: Any, **__: Any) -> None:
        asked.append(config)

    monkeypatch.setattr("hf_wbc.cli.train.train", functools.wraps(train)(note))
    ref, published = str(runs["vit"]), published_config(str(runs["vit"]))
    for flags in (
        [],
        ["--steps", "2", "--target"],
        ["--method", "source_only"],
        ["--method-options", "weight", "3"],
    ):
        assert main(["train", f"--config={ref}", *flags]) == 0
    same, less, other, heavier = asked
    assert same == published and published.adapt.method_options
    assert less == published.replace(steps=2, target=())
    assert other == published.replace(method="source_only", method_options={})
    assert heavier.adapt.method_options == {**published.adapt.method_options, "weight": 3}


@pytest.mark.slow
@pytest.mark.ci
def test_another_machine_resumes_a_stopped_run(
    on_hub: TrainConfig, push: Callable[..., TrainingPush], tmp_path: Path, said: list[str]
) -> None:
    whole = run(on_hub, tmp_path / "whole", tmp_path / "cache")
    keeper = push(public=False)

    def stop(row: Mapping[str, Any]) -> None:
        if row["step"] == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run(on_hub, tmp_path / "dead", tmp_path / "cache", on_progress=stop, sync=keeper)
    assert keeper._upload
    keeper._upload.join()
    steps: list[int] = []
    other = push(public=False)
    taken = run(
        on_hub,
        tmp_path / "other",
        tmp_path / "cache",
        on_progress=lambda row: steps.append(row["step"]),
        sync=other,
    )
    assert min(steps) == 3 and "resuming from step 2 of lab/wbc-vit" in " ".join(said)
    assert predictions(taken) == predictions(whole)
    assert [row["step"] for row in taken.read_history()] == [2, 4]


@pytest.mark.slow
@pytest.mark.ci
def test_rejected_checkpoint_is_reported_and_training_continues(
    hub: Any,
    on_hub: TrainConfig,
    push: Callable[..., TrainingPush],
    tmp_path: Path,
    said: list[str],
) -> None:
    keeper = push(public=False)
    hub.faults.answer("POST", "/commit/training-", 403, times=9, message="no room")
    folder = run(on_hub, tmp_path / "runs", tmp_path / "cache", sync=keeper)
    hub.faults.clear()
    keeper.finish(folder)
    assert [line for line in said if "was not pushed" in line and "training continues" in line]
    assert [tag.name for tag in HfApi().list_repo_refs("lab/wbc-vit").tags] == ["v1"]


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (None, "there is no token"),
        ("reader", "is read-only"),
        ("bob", "and bob is not a member there"),
        ("nobody", "rejects the token"),
    ],
)
def test_missing_permission_is_reported_before_training(
    hub: Any,
    log_in: Callable[[str | None], None],
    push: Callable[..., TrainingPush],
    who: str | None,
    message: str,
) -> None:
    log_in(who)
    with pytest.raises(ValueError, match=message):
        push()


@pytest.mark.slow
@pytest.mark.ci
def test_pushed_files_contain_no_local_paths(
    hub: Any,
    config: TrainConfig,
    push: Callable[..., TrainingPush],
    tmp_path: Path,
) -> None:
    keeper = push(public=False)
    folder = run(config, tmp_path / "runs", tmp_path / "cache", sync=keeper)
    keeper.finish(folder)
    api, seen = HfApi(), 0
    for revision in ("v1", branch_of(folder)):
        for name in api.list_repo_files("lab/wbc-vit", revision=revision):
            data = hub.repo("model", "lab/wbc-vit").content(revision, name)
            for trace in (str(tmp_path.parent), str(Path.home()), config.data.sources[0]):
                assert trace.encode() not in data, f"{trace} in {name}"
            seen += 1
    assert seen > 8
    record = json.loads(hub.repo("model", "lab/wbc-vit").content("v1", "record.json"))
    assert record["config"]["data"]["sources"] == ["lab_a"]


def test_folder_gets_the_model_but_no_checkpoints(
    runs: Mapping[str, Path], labs: Mapping[str, ArchiveSpec], tmp_path: Path
) -> None:
    to = parse_destination(str(tmp_path / "shared"), "model")
    keeper, folder = TrainingPush(to, labs, print, tag="v1"), RunFolder(runs["vit"])
    keeper.fetch(folder)
    keeper.keep(folder)
    keeper.finish(folder)
    for place in (tmp_path / "shared", tmp_path / "shared@v1"):
        assert load_trained(str(place)).classifier.head.out_features == 11
        assert not list(place.glob("checkpoint*"))


def test_config_flag_without_value_exits_with_2() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--sources", "a", "--config"])
    assert ended.value.code == 2


def test_unavailable_private_data_is_reported_before_loading(
    runs: Mapping[str, Path], labs: Mapping[str, ArchiveSpec], tmp_path: Path, config: TrainConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    to = parse_destination(str(tmp_path / "shared"), "model")
    publish(model_publication(runs["vit"], to, labs), to)
    assert main(["train", "--config", str(to), "--target", config.data.target[0]]) == 1
    words = "give your own in place of these: --sources lab_a --model tiny_vit"
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (
            "lab/nothing",
            "lab/nothing: no such folder, and for the model on the Hub: it does not exist at",
        ),
        ("no-such-thing", "no such folder; give a model that `hf-wbc publish` wrote"),
        (".", "has no record.json; give a model that"),
    ],
)
def test_missing_run_is_reported(hub: Any, ref: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published_config(ref)

"""Invalid `hf-wbc train` commands name the value and the remedy, return 1, and leave no files."""

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.cli.main import main
from hf_wbc.engine.checkpoint import load_checkpoint
from hf_wbc.records import RunFolder

Refused = Callable[..., str]
FLAGS = ["--steps", "4", "--batch-size", "4", "--eval-steps", "2"]


@pytest.fixture
def words(laboratories: tuple[str, str], tiny_model: str, tmp_path: Path) -> list[str]:
    """Return the arguments of a valid command."""
    home, away = laboratories
    places = f"--output-dir {tmp_path}/runs --cache {tmp_path}/cache"
    return ["train", *f"--sources {home} --target {away} --model {tiny_model}".split(), *FLAGS,
            *places.split()]  # fmt: skip


@pytest.fixture
def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the command with extra arguments, expect failure, and return its error on one line."""

    def run(*more: str) -> str:
        assert main([*words, *more]) == 1
        return " ".join(capsys.readouterr().err.split("hf-wbc: ")[-1].split())

    return run


@pytest.fixture
def run(words: list[str], tmp_path: Path) -> RunFolder:
    """Return a finished run of that command."""
    assert main(words) == 0
    (path,) = (tmp_path / "runs").iterdir()
    return RunFolder(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--method nope", "unknown method 'nope'; choose from "),
        ("--method source_onli", "did you mean 'source_only'?"),
        ("--method-options tau 1", "source_only has no option tau; its options are: none"),
        (
            "--method mcc --method-options weigth 1",
            "no option weigth; its options are: weight, temp",
        ),
        ("--method mcc --method-options weight -1", "weight is -1; it must not be negative"),
        ("--method vrex", "vrex compares at least 2 sources, but 1 is given"),
        ("--method target_stats --inputs features", "target_stats needs images"),
        (
            "--selection oracle",
            "its score is not a valid result; request it with --target and --oracle",
        ),
        ("--selection held_out", "name them with --held-out"),
        ("--adapt-steps 5", "source_only has no second phase; omit --adapt-steps"),
        ("--method shot --adapt-steps 0", "shot adapts in its second phase, but adapt_steps is 0"),
        ("--method adabn", "adabn re-estimates BatchNorm, but this classifier has none"),
        ("--bottleneck 8 --batch-size 1", "one image has no variance; raise --batch-size"),
        ("--selection best", "unknown selection rule 'best'; choose from source_val, last"),
        ("--model vit-tyni", "did you mean 'vit-tiny'?"),
        ("--target nowhere", "nowhere: no such folder; give a folder that `hf-wbc prepare` wrote"),
        ("--merge banded=segmented", "unknown class 'banded'"),
        ("--classes monocyt", "unknown class 'monocyt'"),
        ("--hue 2", "hue is 2.0; it must lie in 0..0.5"),
        ("--mixed-precision fp16", "mixed_precision is fp16, which needs a GPU"),
        ("--image-size 30", "image size 30 is not a multiple of its patch size, 14 px"),
    ],
)
def test_invalid_options_fail_before_anything_is_written(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, said: str
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert said in refused(*more.split())
    assert not (tmp_path / "runs").exists()


def test_classes_missing_from_target_are_reported_before_training(
    refused: Refused, make_domain: Any, tmp_path: Path
) -> None:
    few = str(make_domain(tmp_path / "few", name="few", classes=("monocyte", "basophil")))
    said = refused("--target", few, "--classes", "eosinophil")
    assert f"{few}, test: no image of the classes eosinophil" in said
    assert not (tmp_path / "runs").exists()


def test_dataset_without_scale_is_refused(
    refused: Refused, make_domain: Any, tmp_path: Path
) -> None:
    unscaled = str(make_domain(tmp_path / "unscaled", name="unscaled", um_per_px=None))
    said = refused("--target", unscaled)
    assert f"{unscaled} has no scale" in said and "--allow-unscaled" in said
    assert not (tmp_path / "runs").exists()


def test_missing_tracker_package_is_an_error(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "trackio is not installed; install" in refused("--trackers", "trackio")
    assert not (tmp_path / "runs").exists()


def test_non_finite_loss_is_reported(refused: Refused) -> None:
    assert "the loss at step 2 is nan; lower --learning-rate" in refused(
        "--learning-rate", "1e30", "--max-grad-norm", "0"
    )


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("config.json", "{", "is "),
        (
            "config.json",
            '{"config": {}, "identity": {"seed": 1}}',
            "belongs to another run than its folder",
        ),
        ("record.json", "", "is "),
        ("record.json", "[]", "is "),
    ],
)
def test_damaged_or_foreign_run_folder_is_reported(
    run: RunFolder, refused: Refused, file: str, text: str, problem: str
) -> None:
    (run.path / file).write_text(text)
    said = refused()
    assert f"{run.path / file} {problem}" in said
    assert f"delete {run.path} and repeat the command" in said


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("state.safetensors", "none"),
        ("best.safetensors", "none"),
        ("progress.json", "{"),
        ("progress.json", '{"stop": 2}'),
        ("../../history.jsonl", "{\n"),
    ],
)
def test_damaged_checkpoint_is_reported(
    run: RunFolder, refused: Refused, file: str, text: str, words: list[str]
) -> None:
    unfinished(run)
    (run.checkpoint / "00000004" / file).write_text(text)
    said = refused()
    assert file.rpartition("/")[2] in said or "by another version" in said
    assert f"delete {run.path}" in said


def test_checkpoint_of_another_model_is_refused(run: RunFolder, refused: Refused) -> None:
    unfinished(run, without="method/classifier.model.classifier.bias")
    assert "was written by another version" in refused()


def unfinished(run: RunFolder, without: str = "") -> None:
    """Add a checkpoint to a run, as if it had been killed at the end."""
    from safetensors.torch import load_file, save_file

    step = run.checkpoint / "00000004"
    step.mkdir(parents=True)
    weights = load_file(run.model / "model.safetensors")
    state = {f"method/classifier.model.{name}": values for name, values in weights.items()}
    state.pop(without, None)
    save_file(state, step / "state.safetensors")
    shutil.copy(run.model / "model.safetensors", step / "best.safetensors")
    (step / "progress.json").write_text(json.dumps({"step": 4, "best_step": 4, "train_s": 1.0}))
    shutil.rmtree(run.model)
    run.record.unlink()


def test_full_disk_keeps_previous_checkpoint(
    words: list[str], refused: Refused, tmp_path: Path
) -> None:
    """A file-size limit simulates a full disk: writing fails halfway."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
        said = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "state.safetensors cannot be written" in said and "File too large" in said
    (path,) = (tmp_path / "runs").iterdir()
    assert load_checkpoint(RunFolder(path).checkpoint) is None
    assert not [*RunFolder(path).checkpoint.iterdir()]
    assert main(words) == 0 and RunFolder(path).finished


def test_adaptation_method_requires_a_target(words: list[str], capsys: Any) -> None:
    at = words.index("--target")
    assert main([*words[:at], *words[at + 2 :], "--method", "dann"]) == 1
    assert "dann adapts to a target; name one with --target" in capsys.readouterr().err


@pytest.mark.parametrize("states_others", [False, True])
def test_images_shared_by_two_domains_are_reported(
    refused: Refused, laboratories: tuple[str, str], tmp_path: Path, states_others: bool
) -> None:
    """A copy under another name shares all images, each in some split, whatever it states."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    copy = tmp_path / "copy"
    shutil.copytree(laboratories[0], copy)
    for file in copy.glob("*/*.parquet"):
        table = pq.read_table(file)
        column = table.schema.get_field_index("domain")
        name = pa.array(["copy"] * len(table))
        table = table.set_column(column, table.schema.field("domain"), name)
        if states_others:
            column = table.schema.get_field_index("pixel_sha256")
            digests = pa.array([f"{file.name} {row}" for row in range(len(table))])
            table = table.set_column(column, table.schema.field("pixel_sha256"), digests)
        pq.write_table(table, file)
    said = refused("--target", str(copy))
    assert f"{copy} and {laboratories[0]} share 88 images" in said
    assert "omit one of them" in said


def test_batch_must_hold_every_source(
    refused: Refused, make_domain: Any, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    other = str(make_domain(tmp_path / "other", name="other", seed=7))
    said = refused("--sources", laboratories[0], other, "--batch-size", "1")
    assert "1 x 1 processes is 1, less than the number of sources, 2; raise --batch-size" in said

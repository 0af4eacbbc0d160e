"""The public Python API: the commands of `hf-wbc` as functions that return values.

Import these names from `hf_wbc`; they load their libraries when they are called:

    >>> import hf_wbc
    >>> hf_wbc.CLASSES[0].name
    'basophil'
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hf_wbc.comparison.compare import Comparison
    from hf_wbc.config import TrainConfig
    from hf_wbc.engine.domains import Domain
    from hf_wbc.hub.publication import Destination, Kind, Publication
    from hf_wbc.inference.batch_predict import BatchPredictions
    from hf_wbc.inference.options import RuntimeName, Split
    from hf_wbc.records import RunFolder

__all__ = ["compare", "embed", "evaluate", "load_domain", "predict", "prepare", "publish", "train"]

Progress = Callable[[int, int], None]
"""Called with the number of items done and the total."""


def prepare(
    source: str, archive: str | Path, out: str | Path | None = None, *, subset: bool = False,
    skip_bad: bool = False, num_proc: int | None = None, seed: int = 0,
    labels: str | Path | None = None, mapping: str | Path | None = None,
    name_encoding: str | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Path:  # fmt: skip
    """Build a dataset folder from a laboratory's archive, as `hf-wbc prepare` does.

    The folder appears when it is complete. An interrupted build resumes, and a finished folder is
    left as it is. `datasets.load_dataset(folder, "cropped")` reads the result.

    Args:
        source: Name of a source: `acevedo_20`, `matek_19`, `mll_23`, `raabin_22`, `wbc_1`, `wbc_2`,
            `wbcbench_26`, `wbcbench_26_test` or `class_folders`.
        archive: The downloaded archive: a folder, .zip, .tar or compressed .tar.
        out: Folder to write; `build/NAME` by default.
        subset: Accept an archive that is not complete; the dataset card says so.
        skip_bad: Leave out images that cannot be read; the dataset card names them.
        num_proc: Number of processes; all cores by default.
        seed: Seed of the splits.
        labels: The owner's label file, for sources that come without labels.
        mapping: The mapping file that describes your class folders, for `class_folders`.
        name_encoding: Encoding of the file names in a zip or tar; detected by default.
        on_progress: Called with the stage, the number of items done and the total.

    Returns:
        The folder of the dataset.

    Raises:
        ValueError: If the archive differs from the stated facts, or an image is damaged.
    """
    import dataset_scripts
    from hf_wbc.preparation.build import prepare as build
    from hf_wbc.preparation.toy_source import NOTICE, toy_name

    archive = Path(archive)
    spec = dataset_scripts.load(source, labels=_path(labels), mapping=_path(mapping))
    name = toy_name(spec.name) if (archive / NOTICE).is_file() else spec.name
    folder = Path(out) if out is not None else Path("build") / name
    build(
        spec, archive, folder, subset=subset, skip_bad=skip_bad, num_proc=num_proc, seed=seed,
        name_encoding=name_encoding, on_progress=on_progress,
    )  # fmt: skip
    return folder


def load_domain(ref: str | Path) -> "Domain":
    """Load the training, validation and test split of a prepared dataset.

    Args:
        ref: A prepared folder, or a Hub dataset `org/name[@revision]`.

    Returns:
        The domain; its `train`, `validation` and `test` have `labels` (N,), `image_ids`, `groups`
        and the underlying Hugging Face `dataset`.

    Raises:
        ValueError: If the dataset does not have the columns of a prepared one.
    """
    from hf_wbc.engine.domains import load_domain as load

    return load(str(ref))


def train(
    config: "TrainConfig",
    output_dir: str | Path = "runs",
    *,
    cache: str | Path = "build/features",
    trackers: Sequence[str] = (),
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> "RunFolder":
    """Train and score a classifier, as `hf-wbc train` does.

    A finished run is returned as it is, an interrupted one resumes to the same bits.

    Args:
        config: Everything that decides the result.
        output_dir: Folder of run folders. The name of a run is the digest of its configuration,
            data and model.
        cache: Folder of embedded features, for `inputs="features"`.
        trackers: `tensorboard`, `trackio` or both.
        on_progress: Called with each row of the history (losses, evaluations).

    Returns:
        The run folder: `.read_record()` has the scores, `.model` is a transformers checkpoint.

    Raises:
        ValueError: For a configuration that cannot work, before anything is trained.
    """
    from hf_wbc.engine.run import run

    return run(
        config, Path(output_dir), Path(cache), tuple(trackers), on_progress or (lambda row: None)
    )


def evaluate(
    model: str | Path,
    data: str | Path,
    output_dir: str | Path = "build/evaluations",
    *,
    splits: Sequence[str] = ("test",),
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    allow_unscaled: bool = False,
    runtime: "RuntimeName" = "torch",
    test_time_flips: bool = False,
    neighbors: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a trained model on a labeled dataset, as `hf-wbc evaluate` does.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        data: A prepared folder, or a Hub dataset.
        output_dir: Folder of evaluation folders.
        splits: Splits to score together: any of `train`, `validation` and `test`.
        merge: Classes scored as one, as `FROM=INTO`.
        classes: Names of the classes to score; those present in the labels by default.
        allow_unscaled: Accept a dataset whose scale is unknown.
        runtime: `torch`, `compile`, `openvino`, `onnx`, or `auto` for the fastest that agrees.
        test_time_flips: Average predictions over mirrored images, at four times the cost.
        neighbors: Number of nearest reference cells (`hf-wbc reference`) whose vote names a cell
            instead of the model's head.
        on_progress: Called with the number of images done and the total.

    Returns:
        The record; `["scores"]` has macro-F1, accuracy, MCC, Cohen's kappa, per-class scores, the
        confusion matrix and 95 % bootstrap intervals, `["probability_scores"]` has AUROC, AUPRC and
        the calibration error with theirs.

    Raises:
        ValueError: If the dataset has no labels or no scale, or the model has other classes.
    """
    from hf_wbc.engine.forward import without_progress_bars
    from hf_wbc.inference.evaluate import evaluate_model

    folder = evaluate_model(
        str(model), str(data), Path(output_dir), tuple(splits), tuple(merge), tuple(classes),
        allow_unscaled, report=on_progress or without_progress_bars, runtime=runtime,
        test_time_flips=test_time_flips, neighbors=neighbors,
    )  # fmt: skip
    record: dict[str, Any] = folder.read_record()
    return record


def embed(
    model: str | Path,
    data: str | Path,
    *,
    cache: str | Path = "build/features",
    image_size: int | None = None,
    runtime: "RuntimeName" = "auto",
) -> dict[str, "npt.NDArray[np.float32]"]:
    """Compute the penultimate features of a dataset, as `hf-wbc embed` does.

    Args:
        model: A backbone's short name, a Hub model `org/name[@revision]`, or a folder.
        data: A prepared folder, or a Hub dataset.
        cache: Folder of the Parquet files; features that are already there are not computed again.
        image_size: Side of the model's input in pixels; the checkpoint's own by default.
        runtime: `torch`, `compile`, `openvino`, `onnx`, or `auto` for the fastest that agrees.

    Returns:
        Features (N, d) by split, float32, in the order of the split's rows.
    """
    from hf_wbc.inference.embed_datasets import embed_datasets

    found = embed_datasets(str(model), [str(data)], Path(cache), image_size, runtime)
    return {each.domain.split: each.table.chunks[0].copy() for each in found}


def predict(
    model: str | Path,
    images: str | Path,
    *,
    um_per_px: float | None = None,
    estimate_scale: bool = False,
    cell_fills_frame: bool = False,
    skip_bad: bool = False,
    splits: "Sequence[Split]" = ("train", "validation", "test"),
    on_progress: Progress | None = None,
) -> "BatchPredictions":
    """Predict the classes of all images of a folder or dataset.

    `hf-wbc predict` writes them to a file and resumes; `hf_wbc.Predictor` takes single images.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        images: A folder of images, a prepared folder, or a Hub dataset.
        um_per_px: Scale of a folder of images in µm per pixel.
        estimate_scale: Estimate the scale of a folder from its red cells, else its nuclei.
        cell_fills_frame: Images are cut out around their cells; their scale does not matter.
        skip_bad: Leave out images that cannot be read, and name them in the result.
        splits: Splits of a dataset to predict.
        on_progress: Called with the number of images done and the total.

    Returns:
        `image_ids`, `logits` (N, 11), `conformal_sets` (N, 11) and `rejected` (N,) where the model
        has them, `outliers` (such as `platelet`; "" for cells), and `counts` by class.

    Raises:
        ValueError: If there are no images, no scale, or images that cannot be read.
    """
    from hf_wbc.engine.accelerator import make_accelerator
    from hf_wbc.engine.forward import without_progress_bars
    from hf_wbc.inference.batch_predict import predict_images
    from hf_wbc.inference.options import PredictOptions

    options = PredictOptions(
        um_per_px=um_per_px, estimate_scale=estimate_scale, cell_fills_frame=cell_fills_frame,
        skip_bad=skip_bad, splits=tuple(splits),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        return predict_images(
            str(model), str(images), Path(work), make_accelerator(), options,
            on_progress=on_progress or without_progress_bars,
        )  # fmt: skip


def compare(
    runs: str | Path | Sequence[str | Path],
    output_dir: str | Path | None = None,
    *,
    baseline: str = "source_only",
    resamples: int = 2000,
    seed: int = 0,
) -> "Comparison":
    """Compare finished runs, as `hf-wbc compare` does.

    Args:
        runs: Run folders, or folders that contain some at any depth.
        output_dir: Folder for the tables (Markdown, LaTeX, CSV, Parquet); nothing is written by
            default. An earlier comparison in it is replaced.
        baseline: The method that the others are tested against.
        resamples: Number of bootstrap resamples of the test images.
        seed: Seed of the resamples.

    Returns:
        The comparison: result rows, significance tests, selection criteria, and problems such as
        damaged or unfinished runs.
    """
    from hf_wbc.comparison.collect import collect
    from hf_wbc.comparison.compare import compare as compare_runs
    from hf_wbc.comparison.export import check_output_folder, write_comparison
    from hf_wbc.file_lock import lock_output

    folders = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    if output_dir is None:
        return compare_runs(collect(folders), baseline, resamples, seed)
    out = Path(output_dir)
    check_output_folder(out)
    with lock_output(out):
        comparison = compare_runs(collect(folders), baseline, resamples, seed)
        write_comparison(out, comparison)
    return comparison


def publish(
    kind: "Kind",
    what: str | Path,
    to: str,
    *,
    tag: str | None = None,
    public: bool | None = None,
    card: Literal["refuse", "keep", "replace"] = "refuse",
    mapping: str | Path | None = None,
    license: str | None = None,
    model: str | None = None,
    dry_run: bool = False,
    on_event: Callable[[str], None] | None = None,
) -> str:
    """Publish a dataset, model, metric, Space, study or leaderboard on the Hub or in a folder.

    Everything arrives in one commit that is then tagged; the tag never moves. An interrupted
    publication leaves the earlier state, and the same call completes it.

    Args:
        kind: `dataset`, `model`, `metric`, `space`, `study` or `leaderboard`.
        what: A prepared folder, a run, a Space's folder or name, a comparison, or a benchmark.
        to: A repository `org/name`, or a folder such as `./name`.
        tag: Name of the tag; the next of v1, v2, ... by default.
        public: Whether anyone can see it; by default the license of the images decides.
        card: What to do with a card that was edited where it is published: `refuse`, `keep` or
            `replace`.
        mapping: The mapping file of a `class_folders` dataset.
        license: License of a model.
        model: Model that a Space shows, `org/name[@revision]`.
        dry_run: Write nothing; return the list of files instead.
        on_event: Called with each line of progress.

    Returns:
        The commit id on the Hub, or the digest of all files in a folder; with `dry_run` the list
        of files.

    Raises:
        ValueError: If something must not be published, before anything is sent.
    """
    from hf_wbc.hub.publication import parse_destination
    from hf_wbc.hub.publish import preview
    from hf_wbc.hub.publish import publish as publish_files

    destination = parse_destination(to, kind)
    publication = build_publication(
        kind, str(what), destination, _path(mapping), license, model,
        public=public, tag=tag, on_event=on_event,
    )  # fmt: skip
    if dry_run:
        return "\n".join(preview(publication, destination, card=card, on_event=on_event))
    return publish_files(publication, destination, card=card, on_event=on_event)


def build_publication(
    kind: "Kind", what: str, destination: "Destination", mapping: Path | None,
    license: str | None, model: str | None, *, public: bool | None, tag: str | None,
    on_event: Callable[[str], None] | None = None,
) -> "Publication":  # fmt: skip
    """Build what `publish` sends: the files, card and visibility.

    Raises:
        ValueError: For options that do not go with `kind`, or content that must not be published.
    """
    import dataset_scripts
    from hf_wbc.hub import (
        publish_comparison,
        publish_dataset,
        publish_leaderboard,
        publish_model,
        publish_space,
    )

    for name, value, owner, owners in (
        ("mapping", mapping, "dataset", "datasets"),
        ("license", license, "model", "models"),
        ("model", model, "space", "Spaces"),
    ):
        if value is not None and kind != owner:
            raise ValueError(f"--{name} {value} is for {owners}; omit it")
    options: dict[str, Any] = {"public": public, "tag": tag}
    known = dataset_scripts.known()
    if kind == "dataset":
        domain = publish_dataset.read_provenance(Path(what)).get("domain", "")
        if mapping is None and domain not in known:
            raise ValueError(f"{what} contains {domain}, your own source; give its --mapping FILE")
        own = dataset_scripts.load("class_folders", mapping=mapping) if mapping else known[domain]
        return publish_dataset.dataset_publication(Path(what), own, destination, **options)
    if kind == "model":
        return publish_model.model_publication(
            Path(what), destination, known, license=license, **options
        )
    if kind == "study":
        return publish_comparison.comparison_publication(Path(what), destination, known, **options)
    if kind == "leaderboard":
        return publish_leaderboard.leaderboard_publication(what, on_event, **options)
    if kind == "metric":
        return publish_space.metric_publication(what, destination, **options)
    return publish_space.space_publication(what, destination, model=model, **options)


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)

"""`hf_wbc.label`: from a model and a folder to a learner, for notebooks and scripts."""

from collections.abc import Sequence
from pathlib import Path

from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.inference.gallery import read_reference_set
from hf_wbc.inference.options import PredictOptions
from hf_wbc.labeling.adapt import prototypes_of
from hf_wbc.labeling.label_formats import import_answers
from hf_wbc.labeling.learner import DEFAULT_STRATEGY, Learner
from hf_wbc.labeling.pool import CACHE, open_pool

__all__ = ["label"]


def label(
    model: str | Path,
    images: str | Path,
    *,
    labels: str | Path | None = None,
    um_per_px: float | None = None,
    estimate_scale: bool = False,
    cell_fills_frame: bool = False,
    strategy: str = DEFAULT_STRATEGY,
    head: str = "logistic",
    merge: Sequence[str] = (),
    seed: int = 0,
    cache: str | Path = CACHE,
    on_progress: Report = without_progress_bars,
) -> Learner:
    """Embed the cells of a laboratory, to label some of them and adapt a model, as `hf-wbc label`.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        images: A folder of images, a prepared folder, or a Hub dataset; test cells of a dataset
            are not offered.
        labels: Labels that exist: a labels file, or an export of Label Studio or CVAT.
        um_per_px: Scale of a folder of images in µm per pixel.
        estimate_scale: Estimate the scale of a folder from its red cells, else its nuclei.
        cell_fills_frame: Images are cut out around their cells; their scale does not matter.
        strategy: Which cells are chosen, see `hf_wbc.labeling.strategies`.
        head: `logistic`, `prototypes`, `cache`, or `last_block`, which tunes the last block too.
        merge: Classes to score as one, as FROM=INTO.
        seed: Seed of all choices.
        cache: Folder of the embeddings.
        on_progress: Called with the number of images embedded and the total.

    Returns:
        The learner: `next(10)` names the cells to label, `tell(ids, labels)` takes the labels,
        `predict()` names all cells, `estimate()` says how good that is, and `save(folder)` writes
        a plain transformers model.

    Raises:
        ValueError: If the images cannot be read, or the labels do not fit them.
    """
    options = PredictOptions(
        um_per_px=um_per_px, estimate_scale=estimate_scale, cell_fills_frame=cell_fills_frame
    )
    pretrained, pool = open_pool(
        str(model), str(images), options, Path(cache),
        on_progress=on_progress,
    )  # fmt: skip
    learner = Learner.of_model(
        pretrained, pool, strategy=strategy, head=head, merge=merge, seed=seed,
        prototypes=prototypes_of(read_reference_set(str(model), pretrained)),
    )  # fmt: skip
    if labels is not None:
        learner.tell_answers(import_answers(Path(labels), pool.image_ids))
    return learner

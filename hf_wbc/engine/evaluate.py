"""Score a trained classifier on a dataset it may never have seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_wbc.data.domain import load_domain
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.corpus import require_scale
from hf_wbc.engine.finish import packages
from hf_wbc.engine.inputs import load_images
from hf_wbc.engine.predict import predict
from hf_wbc.engine.scoring import prediction_rows, score_predictions
from hf_wbc.models import load_trained
from hf_wbc.records import RunFolder, replacing
from hf_wbc.taxonomy import UNLABELLED


def evaluate_model(
    model: str,
    ref: str,
    root: Path,
    splits: Sequence[str],
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    allow_unscaled: bool = False,
    seed: int = 0,
) -> RunFolder:
    """Write a folder with the predictions and scores of some splits of a dataset, taken together.

    ValueError for a model of other classes, a dataset without labels, or one without scale unless
    that is allowed.
    """
    loaded = load_trained(model)
    domains = [load_domain(ref, split) for split in splits]
    require_scale(domains, allow_unscaled)
    labels = np.concatenate([domain.labels for domain in domains])
    if (labels == UNLABELLED).all():
        raise ValueError(f"{ref} has no labels, so nothing can be scored")
    asked = {"model": model, "data": ref, "splits": list(splits)}
    options = {"merge": list(merge), "classes": list(classes), "seed": seed}
    facts = {
        "model": loaded.revision,
        "data": {domain.split: domain.fingerprint for domain in domains},
    }
    folder = RunFolder.open(root, asked | options, facts | options)
    if folder.finished:
        return folder
    accelerator = make_accelerator()
    loaded.classifier.to(accelerator.device)
    tables, predicted = [], []
    for domain in domains:
        found = predict(loaded.classifier, load_images(loaded, domain), loaded, accelerator)
        tables.append(prediction_rows(domain, found))
        predicted.append(found.classes)
    scores = score_predictions(labels, np.concatenate(predicted), merge, classes, seed)
    if accelerator.is_main_process:
        with replacing(folder.predictions) as temporary:
            pq.write_table(pa.concat_tables(tables), temporary)
        folder.write_record(
            {
                "kind": "evaluation",
                "run": folder.path.name,
                **asked,
                "domain": domains[0].name,
                "um_per_px": domains[0].um_per_px,
                "revisions": {"model": loaded.revision, "data": domains[0].revision},
                "scores": scores,
                "packages": packages(),
            }
        )
    return folder

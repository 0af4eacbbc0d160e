"""The card of a published model, from its run's record: what it is, scored where, chosen how.

The tables of a model card; every number is from the run's record.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_wbc.adaptation import load_method
from hf_wbc.comparison.document import Strong, Table, join_names, three_decimals
from hf_wbc.comparison.export import markdown_table
from hf_wbc.config import TrainConfig
from hf_wbc.data.schema import CROP_UM, DEFAULT_CONFIG, SPLITS
from hf_wbc.hub import model_card_text as card_text
from hf_wbc.hub.card import CardLocation, render_card
from hf_wbc.hub.model_card_text import SPLIT_WORDS, Record, part_of, scored
from hf_wbc.hub.provenance import (
    ROLES,
    dataset_location,
    hub_dataset,
    hub_model,
    is_from_scratch,
    model_location,
)
from hf_wbc.models.exposure import Exposure
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import plural

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData


def score_table(record: Record) -> Table:
    """A row for each domain and split: macro-F1 with its interval and number of classes."""
    headings = (
        "images of", "split", "macro-F1 [95 %]", "classes", "accuracy", "balanced accuracy",
        "other lineage", "images",
    )  # fmt: skip
    cells = []
    for domain, split, scores in scored(record):
        low, high = scores["intervals"]["macro_f1"]
        macro = (
            f"{three_decimals(scores['macro_f1'])} [{three_decimals(low)}, {three_decimals(high)}]"
        )
        role = record["results"][domain]["role"]
        cells.append(
            (
                f"{domain} ({role})",
                SPLIT_WORDS[split],
                Strong(macro) if split == "test" else macro,
                str(scores["num_classes"]),
                three_decimals(scores["accuracy"]),
                three_decimals(scores["balanced_accuracy"]),
                three_decimals(scores["lineage_errors"]["cross_lineage"]),
                f"{scores['num_images']:,}",
            )
        )
    return Table(headings, tuple(cells), 2)


def class_table(record: Record) -> Table:
    """F1 of each class on the test images of each domain, with its number of images."""
    tested = [(domain, scores) for domain, split, scores in scored(record) if split == "test"]
    names = [name for name in NAMES if any(name in scores["per_class"] for _, scores in tested)]
    cells = tuple((name, *(_f1(scores, name) for _, scores in tested)) for name in names)
    return Table(("F1 (images)", *(domain for domain, _ in tested)), cells)


def _f1(scores: Mapping[str, Any], name: str) -> str:
    each = scores["per_class"].get(name)
    return f"{three_decimals(each['f1'])} ({each['support']:,})" if each else "–"


def data_table(record: Record, sources: Mapping[str, ArchiveSpec]) -> Table:
    """Each domain with its revision, the fingerprints of its rows, scale and license."""
    headings = ("data", "use", "revision", "fingerprints", "um per px", "license", "images")
    cells = tuple(
        (
            domain["name"],
            part_of(record, role),
            f"`{dataset_location(domain)}`" if domain["revision"] else "a folder",
            " ".join(f"`{domain[split][:8]}`" for split in SPLITS),
            "unknown" if domain["um_per_px"] is None else f"{domain['um_per_px']:.6g}",
            sources[domain["name"]].license if domain["name"] in sources else "see its card",
            " / ".join(
                f"{domain['num_images'][split]:,}" for split in ("train", "validation", "test")
            ),
        )
        for role in ROLES
        for domain in record[role]
    )
    return Table(headings, cells, 6)


def calibration_table(record: Record) -> Table:
    """Calibration and sets on the test images of each domain."""
    headings = (
        "test images of", "calibration error", "before", "confidence − accuracy",
        "coverage of 90 % sets", "classes per set", "rejected",
    )  # fmt: skip
    cells = []
    for domain, _, _ in (each for each in scored(record) if each[1] == "test"):
        found = record["calibration"]["domains"].get(domain, {}).get("test")
        if found is None:
            continue
        sets = found["conformal"]["marginal"]
        cells.append(
            (
                domain,
                three_decimals(found["ece"]["after"]),
                three_decimals(found["ece"].get("before")),
                f"{found['overconfidence']:+.3f}".replace("-", "−"),
                three_decimals(sets["coverage"]),
                f"{sets['mean_size']:.2f}",
                three_decimals(found["rejected"]),
            )
        )
    return Table(headings, tuple(cells))


TEMPLATE = "model_cards/model.md"
TAGS = ("biology", "medical", "microscopy", "blood", "white-blood-cells", "hf_wbc")


def model_card(
    record: Record,
    seen: Exposure,
    place: CardLocation,
    sources: Mapping[str, ArchiveSpec],
    *,
    license: str | None = None,
    picture: str | None = None,
) -> str:
    """The README.md of a run's model that others load from `place`.

    `seen` is what the weights have seen, `sources` are the known ones by domain, `license` is the
    publisher's for the weights, and `picture` the file of a confusion matrix.
    """
    config, selection = TrainConfig.from_record(record), record["selection"]
    scale = next((d["um_per_px"] for d in record["sources"] if d["um_per_px"]), None)
    unseen = card_text.unseen_classes(record)
    retrain, requirements = card_text.retraining(record, place.ref)
    return render_card(
        TEMPLATE,
        card_data(record, license),
        title=f"{network(record)}: {card_text.direction(record)}",
        network=network(record),
        place=place,
        trained_on=card_text.trained_on(record),
        method=config.adapt.method,
        paper=load_method(config.adapt.method).paper,
        warnings=list(card_text.warnings(record)),
        scaled=scale is not None,
        um_per_px=f"{scale or 0:.6g}",
        um=f"{CROP_UM:g}",
        how_chosen=card_text.how_chosen(record),
        oracle=selection["sees"] == "target labels",
        score_table=markdown_table(score_table(record)),
        class_table=markdown_table(class_table(record)),
        unit=card_text.scored(record)[0][2]["intervals"]["unit"],
        picture=picture,
        picture_of=card_text.scored(record)[0][0],
        pipeline_scores=record["images"]["pipeline_scores"],
        data_table=markdown_table(data_table(record, sources)),
        base=card_text.base(record),
        seen=seen.said,
        calibration_table=markdown_table(calibration_table(record)),
        calibration=card_text.calibration(record),
        notes=list(card_text.notes(record)),
        unseen=join_names(unseen),
        several_unseen=len(unseen) > 1,
        retrain=retrain,
        requirements=requirements,
        training=card_text.training(record),
        licenses=card_text.licenses(record, sources, license),
        citations=[
            sources[d["name"]].citation
            for role in ROLES
            for d in record[role]
            if d["name"] in sources and sources[d["name"]].citation
        ],
    )


def card_data(record: Record, license: str | None = None) -> "ModelCardData":
    """The card's YAML, with the scores as the Hub's model-index."""
    from huggingface_hub import ModelCardData

    datasets = [hub_dataset(domain) for role in ("sources", "target") for domain in record[role]]
    return ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=[*TAGS, *(["domain-adaptation"] if record["target"] else [])],
        datasets=[repo for repo in datasets if repo] or None,
        base_model=None if is_from_scratch(record["model"]) else hub_model(record["model"]),
        metrics=["f1", "accuracy"],
        model_name=f"{network(record)}, {card_text.direction(record)}",
        eval_results=[
            each for scored in card_text.scored(record) for each in _results(record, scored)
        ],
    )


def _results(record: Record, scored: card_text.Scored) -> "list[EvalResult]":
    """macro-F1, accuracy and balanced accuracy on one split of one domain."""
    from huggingface_hub import EvalResult

    name, split, scores = scored
    domain = next(d for role in ROLES for d in record[role] if d["name"] == name)
    rule = f"weights selected by {record['selection']['rule']}"
    if record["selection"]["sees"] == "target labels":
        rule += ", which used target labels: not a valid result"
    over = plural(scores["num_classes"], "class", "classes")
    metrics = (
        ("f1", f"macro-F1 over {over}; {rule}", "macro_f1", {"average": "macro"}),
        ("accuracy", f"accuracy; {rule}", "accuracy", None),
        ("accuracy", f"balanced accuracy over {over}; {rule}", "balanced_accuracy", None),
    )
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=hub_dataset(domain) or name,
            dataset_name=name,
            dataset_config=DEFAULT_CONFIG,
            dataset_split=split if split != "transductive" else "train+validation+test",
            dataset_revision=domain["revision"],
            metric_type=kind,
            metric_name=label,
            metric_value=scores[key],
            metric_args=args,
        )
        for kind, label, key, args in metrics
    ]


def network(record: Record) -> str:
    """The base model's own name, without owner and revision."""
    return model_location(record["model"]).partition("@")[0].rpartition("/")[2]

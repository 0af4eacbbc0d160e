"""The card of a published model, from its run's record: what it is, scored where, chosen how."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_wbc.adaptation import load_method
from hf_wbc.comparison.document import count, listed
from hf_wbc.comparison.export import markdown_table
from hf_wbc.data.schema import CROP_UM, DEFAULT_CONFIG
from hf_wbc.hub import model_tables as tables
from hf_wbc.hub import model_words as words
from hf_wbc.hub.card import Place, render_card
from hf_wbc.hub.places import ROLES, hub_dataset, hub_model, is_fresh, model_place
from hf_wbc.models.exposure import Exposure
from hf_wbc.prepare.source import Source

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

TEMPLATE = "model_cards/model.md"
TAGS = ("biology", "medical", "microscopy", "blood", "white-blood-cells", "hf_wbc")
Record = Mapping[str, Any]


def model_card(
    record: Record,
    seen: Exposure,
    place: Place,
    sources: Mapping[str, Source],
    *,
    licence: str | None = None,
    picture: str | None = None,
) -> str:
    """The README.md of a run's model that others load from `place`.

    `seen` is what its weights have seen, `sources` are known by their domain, `licence` is what the
    publisher gives the weights, `picture` a confusion matrix of `pictured`.
    """
    config, selection = record["config"], record["selection"]
    scale = next((d["um_per_px"] for d in record["sources"] if d["um_per_px"]), None)
    unseen = words.unseen_classes(record)
    retrain, at_hand = words.retraining(record, place.ref)
    return render_card(
        TEMPLATE,
        card_data(record, licence),
        title=f"{network(record)}: {words.direction(record)}",
        network=network(record),
        place=place,
        trained_on=words.trained_on(record),
        method=config["method"],
        paper=load_method(config["method"]).paper,
        warnings=list(words.warnings(record)),
        scaled=scale is not None,
        um_per_px=f"{scale or 0:.6g}",
        um=f"{CROP_UM:g}",
        how_chosen=words.how_chosen(record),
        oracle=selection["sees"] == "target labels",
        score_table=markdown_table(tables.score_table(record)),
        class_table=markdown_table(tables.class_table(record)),
        unit=words.scored(record)[0][2]["intervals"]["unit"],
        picture=picture,
        picture_of=words.scored(record)[0][0],
        pipeline_scores=record["images"]["pipeline_scores"],
        data_table=markdown_table(tables.data_table(record, sources)),
        base=words.base(record),
        seen=seen.said,
        belief_table=markdown_table(tables.belief_table(record)),
        calibration=words.calibration(record),
        notes=list(words.notes(record)),
        unseen=listed(unseen),
        several_unseen=len(unseen) > 1,
        retrain=retrain,
        at_hand=at_hand,
        training=words.training(record),
        licence=words.licences(record, sources, licence),
        citations=[
            sources[d["name"]].citation
            for role in ROLES
            for d in record[role]
            if d["name"] in sources and sources[d["name"]].citation
        ],
    )


def card_data(record: Record, licence: str | None = None) -> "ModelCardData":
    """The card's YAML, with the scores as the Hub's model-index."""
    from huggingface_hub import ModelCardData

    datasets = [hub_dataset(domain) for role in ("sources", "target") for domain in record[role]]
    return ModelCardData(
        license=licence,
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=[*TAGS, *(["domain-adaptation"] if record["target"] else [])],
        datasets=[repo for repo in datasets if repo] or None,
        base_model=None if is_fresh(record["model"]) else hub_model(record["model"]),
        metrics=["f1", "accuracy"],
        model_name=f"{network(record)}, {words.direction(record)}",
        eval_results=[each for scored in words.scored(record) for each in _results(record, scored)],
    )


def _results(record: Record, scored: words.Scored) -> "list[EvalResult]":
    """macro-F1, accuracy and balanced accuracy on one split of one domain."""
    from huggingface_hub import EvalResult

    name, split, scores = scored
    domain = next(d for role in ROLES for d in record[role] if d["name"] == name)
    rule = f"weights picked by {record['selection']['rule']}"
    if record["selection"]["sees"] == "target labels":
        rule += ", which saw target labels: no result"
    over = count(scores["num_classes"], "class", "classes")
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
            metric_name=said,
            metric_value=scores[key],
            metric_args=args,
        )
        for kind, said, key, args in metrics
    ]


def network(record: Record) -> str:
    """The base model's own name, without owner and revision."""
    return model_place(record["model"]).partition("@")[0].rpartition("/")[2]

"""Sentences of the model card; every number is from the record of the run."""

from collections.abc import Iterator, Mapping
from typing import Any

from hf_wbc.adaptation import load_method
from hf_wbc.comparison.document import ARROW, join_names
from hf_wbc.config import TrainConfig
from hf_wbc.hub.provenance import ROLES, hub_model, is_from_scratch, model_location
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import plural

Record = Mapping[str, Any]
Scored = tuple[str, str, Mapping[str, Any]]
"""A domain, the split that was scored, and the scores."""

SPLIT_WORDS = {
    "test": "test images",
    "validation": "validation images",
    "transductive": "all images, including those used for adaptation",
}
_ORDER = {"target": 0, "held out": 1, "source": 2}


def direction(record: Record) -> str:
    """`a + b → c`, or `a` where there is no target."""
    sources, targets = (
        " + ".join(domain["name"] for domain in record[role]) for role in ("sources", "target")
    )
    return f"{sources} {ARROW} {targets}" if targets else sources


def scored(record: Record) -> list[Scored]:
    """All that was scored, targets first."""
    results = sorted(record["results"].items(), key=lambda item: _ORDER.get(item[1]["role"], 3))
    return [
        (domain, split, entry[split])
        for domain, entry in results
        for split in SPLIT_WORDS
        if entry.get(split) is not None
    ]


def unseen_classes(record: Record) -> list[str]:
    """Classes of which the sources have no validation image."""
    numbers = record["calibration"]["num_images"]
    return [name for name, number in zip(NAMES, numbers, strict=True) if not number]


def how_chosen(record: Record) -> str:
    """Which evaluation was kept, and what the rule that chose it saw of the target."""
    selection = record["selection"]
    saw = {
        "no target": "which saw nothing of the target",
        "unlabeled target": "which saw target images without labels",
        "target labels": "which saw **target labels**",
    }[selection["sees"]]
    return (
        f"The weights are those of step {selection['step']:,}, selected by the rule "
        f"`{selection['rule']}`, {saw}."
    )


def warnings(record: Record) -> Iterator[str]:
    """Yield the warnings that precede all scores, one paragraph each."""
    targets = [domain["name"] for domain in record["target"]]
    if record["selection"]["sees"] == "target labels":
        yield (
            f"**Oracle.** These weights were selected with labels of {join_names(targets)}. The "
            "scores there are an upper bound, not a valid result."
        )
    if labels := record.get("target_labels"):
        readers = f", given by {join_names(labels['readers'])}" if labels["readers"] else ""
        yield (
            f"**Trained with target labels.** {labels['num']} training images of "
            f"{join_names(targets)} had labels (chosen by: {labels['strategy']}{readers}). Compare "
            "the scores only with models that have seen as many."
        )
    before = record["model"]["exposed_to"]
    if known := [name for name in targets if name in before]:
        yield (
            f"**Exposed.** The backbone was pre-trained on images of {join_names(known)}: the "
            "scores there are no evidence of transfer to an unseen laboratory."
        )
    elif str(record["model"]["exposure"]).endswith("unknown"):
        yield (
            "**Exposure unknown.** The pre-training data of the backbone are not recorded; it may "
            "have seen any of these laboratories."
        )
    if note := record["images"]["note"]:
        yield f"**Additional preprocessing.** {str(note).replace('model/', 'It', 1)}."
    if TrainConfig.from_record(record).eval.correct_priors != "none":
        yield (
            "**For one target.** The model is corrected for the class proportions of "
            f"{join_names(targets)}, estimated without labels; its probabilities are not valid for "
            "other laboratories."
        )
    unscaled = [d["name"] for role in ROLES for d in record[role] if d["um_per_px"] is None]
    if unscaled:
        yield (
            f"**Scale unknown.** The scale of {join_names(unscaled)} is unknown and the cell fills "
            "the frame, so the whole frame was used."
        )
    if merge := TrainConfig.from_record(record).eval.merge:
        pairs = join_names([pair.replace("=", " as ") for pair in merge])
        yield f"**Merged classes.** Scored as one class: {pairs}. The model predicts all eleven."


def part_of(record: Record, role: str) -> str:
    """What the domains of a role were used for."""
    if role == "sources":
        return "source, with labels"
    if role == "held_out":
        chose = record["selection"]["rule"] == "held_out"
        return f"held out: {'selected the weights, with labels' if chose else 'scored only'}"
    uses = []
    if labels := record.get("target_labels"):
        uses.append(f"training with {labels['num']} labels")
    if load_method(TrainConfig.from_record(record).adapt.method).sees_target():
        uses.append("adaptation without labels")
    if record["selection"]["sees"] != "no target":
        kind = {"unlabeled target": "without", "target labels": "with"}
        uses.append(f"selection of weights {kind[record['selection']['sees']]} labels")
    return f"target: {' and '.join(uses) or 'scored only'}"


def trained_on(record: Record) -> str:
    """`trained on a and b with their labels, adapted to c without labels`."""
    text = f"of {join_names([domain['name'] for domain in record['sources']])} with their labels"
    if targets := [domain["name"] for domain in record["target"]]:
        labels = record.get("target_labels")
        adapts = load_method(TrainConfig.from_record(record).adapt.method).sees_target()
        text += f", {'adapted to' if adapts or labels else 'scored on'} {join_names(targets)}"
        if labels:
            text += f" with {labels['num']} labels"
        elif adapts:
            text += " without labels"
    return text


def calibration(record: Record) -> str:
    """Describe the origin and the guarantees of temperature and thresholds."""
    found = record["calibration"]
    rate = found["rejection"]["rate"]
    return (
        f"The temperature, {found['temperature']:.3f}, was fitted on the {found['fitted_on']}. "
        "The calibration error is the mean gap between confidence and accuracy; prediction sets "
        f"have a nominal coverage of 90 %, and {rate:.0%} of the images are rejected as too "
        f"uncertain. {found['guarantee'].capitalize()}."
    )


def notes(record: Record) -> Iterator[str]:
    """Yield the caveats about calibration and the class proportions of the target."""
    text = str(record["calibration"]["note"])
    others = [shift["note"] for shift in record["label_shift"].values()]
    for note in dict.fromkeys([text, *(note for note in others if note not in text)]):
        if note:
            yield f"{note}."


def training(record: Record) -> dict[str, str]:
    """The run in a table of few rows."""
    config, cost, machine = TrainConfig.from_record(record), record["cost"], record["machine"]
    model, optim = config.model, config.optim
    options = ", ".join(f"{name} {value}" for name, value in config.adapt.method_options.items())
    weights, processes = record["model"], plural(machine["num_processes"], "process", "processes")
    per_step = optim.images_per_step * machine["num_processes"]
    learns = {"full": "all weights", "frozen": "the head only", "lora": "LoRA and the head"}
    return {
        "run": f"`{record['run']}`, seed {config.seed}",
        "method": f"`{config.adapt.method}`" + (f" ({options})" if options else ""),
        "trained weights": learns[model.trainable]
        + (", on embedded features" if model.inputs == "features" else ""),
        "steps": f"{cost['steps']:,} of {per_step} source images",
        "learning rate": f"{optim.learning_rate:g}, weight decay {optim.weight_decay:g}",
        "sampling": config.data.balance.replace("_", " and "),
        "parameters": f"{weights['num_parameters']:,}; {weights['num_trained']:,} trained",
        "input": f"{model.image_size} px",
        "cost": f"{cost['elapsed_s'] / 3600:.2f} h on {machine['device']}, {processes}, "
        f"{cost['images_per_s']:,.0f} images/s",
        "software": ", ".join(f"{name} {version}" for name, version in record["packages"].items()),
    }


def retraining(record: Record, ref: str) -> tuple[str, str]:
    """Return the flags that repeat the training, and what they require."""
    flags, folders = [f"--config {ref}"], []
    for role in ROLES:
        names = [domain["name"] for domain in record[role] if domain["revision"] is None]
        if names:
            flags.append(f"--{role.replace('_', '-')} {' '.join(d['name'] for d in record[role])}")
            folders += names
    if hub_model(record["model"]) is None:
        flags.append(f"--model {model_location(record['model'])}")
        folders.append("the base model")
    if not folders:
        return " ".join(flags), "Data and base model are fetched at the recorded commits."
    return " ".join(flags), (
        f"{join_names(folders)} came from folders: use your own copies; the fingerprints show "
        "whether they are identical."
    )


def base(record: Record) -> str:
    """Describe the initial weights."""
    model = record["model"]
    kind, _, digest = str(model["revision"]).rpartition(":")
    revision = f"`{kind}:{digest[:12]}`" if kind else f"`{digest[:12]}`"
    if is_from_scratch(model):
        return (
            "The model was trained from random weights with seed "
            f"{record['config']['seed']}; only its architecture is that of "
            f"`{model_location(model)}`, {revision}."
        )
    return f"The base model is `{model_location(model)}`, {revision}."


def licenses(record: Record, sources: Mapping[str, ArchiveSpec], license: str | None) -> str:
    """Describe the licenses of the weights, the images and the base model."""
    given = (
        f"The publisher licenses the weights under `{license}`."
        if license
        else "The publisher has not specified a license for the weights."
    )
    parts = [
        f"{domain['name']}: `{sources[domain['name']].license}`"
        if domain["name"] in sources
        else f"{domain['name']}: see its card"
        for role in ROLES
        for domain in record[role]
    ]
    text = f"{given} They were trained on images ({'; '.join(parts)})"
    if not is_from_scratch(record["model"]):
        base = model_location(record["model"])
        text += f", starting from `{base}`, whose license is on its card"
    return f"{text}; check that all of these licenses permit your use."

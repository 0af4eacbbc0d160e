"""What a model card says of a run, in sentences; every number is from the record."""

from collections.abc import Iterator, Mapping
from typing import Any

from hf_wbc.adaptation import load_method
from hf_wbc.comparison.document import ARROW, count, join_names
from hf_wbc.config import TrainConfig
from hf_wbc.hub.provenance import ROLES, hub_model, is_from_scratch, model_location
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.taxonomy import NAMES

Record = Mapping[str, Any]
Scored = tuple[str, str, Mapping[str, Any]]
"""A domain, the split that was scored, and the scores."""

SPLIT_WORDS = {
    "test": "test images",
    "validation": "validation images",
    "transductive": "all images, those that were adapted to included",
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
        "no target": "which saw nothing of any target",
        "unlabeled target": "which saw target images without labels",
        "target labels": "which saw **target labels**",
    }[selection["sees"]]
    return (
        f"The weights are those of step {selection['step']:,}, picked by the rule "
        f"`{selection['rule']}`, {saw}."
    )


def warnings(record: Record) -> Iterator[str]:
    """What has to be known before any number is read; one paragraph each."""
    targets = [domain["name"] for domain in record["target"]]
    if record["selection"]["sees"] == "target labels":
        yield (
            f"**Oracle.** Labels of {join_names(targets)} picked these weights. Its scores "
            "there tell "
            "how much choosing costs, and are no result."
        )
    before = record["model"]["exposed_to"]
    if known := [name for name in targets if name in before]:
        yield (
            f"**Exposed.** The backbone had seen images of {join_names(known)} before: the scores "
            "there are no evidence of transfer to a laboratory that it has not seen."
        )
    elif str(record["model"]["exposure"]).endswith("unknown"):
        yield (
            "**Exposure unknown.** Nobody recorded what the backbone was trained on before; it may "
            "have seen any of these laboratories."
        )
    if note := record["images"]["note"]:
        yield f"**More than a pipeline does.** {str(note).replace('model/', 'It', 1)}."
    if TrainConfig.from_record(record).eval.correct_priors != "none":
        yield (
            "**For one target.** It is corrected for the class proportions of "
            f"{join_names(targets)}, "
            "estimated without labels; elsewhere its probabilities are wrong."
        )
    unscaled = [d["name"] for role in ROLES for d in record[role] if d["um_per_px"] is None]
    if unscaled:
        yield (
            f"**Scale unknown.** In {join_names(unscaled)} the cell fills the frame, and "
            "nobody knows "
            "how many um a pixel is; there the whole frame was used."
        )
    if merge := TrainConfig.from_record(record).eval.merge:
        pairs = join_names([pair.replace("=", " as ") for pair in merge])
        yield f"**Merged classes.** Scored as one: {pairs}. The model itself knows all eleven."


def part_of(record: Record, role: str) -> str:
    """What the domains of a role were used for."""
    if role == "sources":
        return "source, with labels"
    if role == "held_out":
        chose = record["selection"]["rule"] == "held_out"
        return f"held out: {'chose the weights, with labels' if chose else 'scored alone'}"
    uses = []
    if load_method(TrainConfig.from_record(record).adapt.method).sees_target():
        uses.append("adapted to without labels")
    if record["selection"]["sees"] != "no target":
        uses.append(f"chose the weights by {record['selection']['sees']}")
    return f"target, {' and '.join(uses) or 'scored alone'}"


def trained_on(record: Record) -> str:
    """`trained on a and b with their labels, adapted to c without labels`."""
    said = f"of {join_names([domain['name'] for domain in record['sources']])} with their labels"
    if targets := [domain["name"] for domain in record["target"]]:
        kinds = load_method(TrainConfig.from_record(record).adapt.method)
        how = "adapted to" if kinds.sees_target() else "meant for"
        said += f", {how} {join_names(targets)} without labels"
    return said


def calibration(record: Record) -> str:
    """Where temperature and thresholds come from, and what they promise."""
    found = record["calibration"]
    rate = found["rejection"]["rate"]
    return (
        f"Its temperature, {found['temperature']:.3f}, was fitted on the {found['fitted_on']}. "
        "Calibration error is the mean gap between what it says and how often it is right; "
        f"a set of classes is meant to hold the true one in 90 of 100 images, and {rate:.0%} of "
        f"images to be turned away as too uncertain. {found['guarantee'].capitalize()}."
    )


def notes(record: Record) -> Iterator[str]:
    """What calibration and the target's class proportions left to say."""
    said = str(record["calibration"]["note"])
    others = [shift["note"] for shift in record["label_shift"].values()]
    for note in dict.fromkeys([said, *(note for note in others if note not in said)]):
        if note:
            yield f"{note}."


def training(record: Record) -> dict[str, str]:
    """The run in a table of few rows."""
    config, cost, machine = TrainConfig.from_record(record), record["cost"], record["machine"]
    model, optim = config.model, config.optim
    options = ", ".join(f"{name} {value}" for name, value in config.adapt.method_options.items())
    weights, processes = record["model"], count(machine["num_processes"], "process", "processes")
    per_step = optim.images_per_step * machine["num_processes"]
    learns = {"full": "all weights", "frozen": "the head alone", "lora": "LoRA and the head"}
    return {
        "run": f"`{record['run']}`, seed {config.seed}",
        "method": f"`{config.adapt.method}`" + (f" ({options})" if options else ""),
        "what learns": learns[model.trainable]
        + (", on embedded features" if model.inputs == "features" else ""),
        "steps": f"{cost['steps']:,} of {per_step} source images",
        "learning rate": f"{optim.learning_rate:g}, weight decay {optim.weight_decay:g}",
        "sampling": config.data.balance.replace("_", " and "),
        "parameters": f"{weights['num_parameters']:,}; {weights['num_trained']:,} learned",
        "input": f"{model.image_size} px",
        "cost": f"{cost['elapsed_s'] / 3600:.2f} h on {machine['device']}, {processes}, "
        f"{cost['images_per_s']:,.0f} images/s",
        "software": ", ".join(f"{name} {version}" for name, version in record["packages"].items()),
    }


def retraining(record: Record, ref: str) -> tuple[str, str]:
    """The command that trains it again, and what whoever gives it must have at hand."""
    flags, folders = [f"--config {ref}"], []
    for role in ROLES:
        names = [domain["name"] for domain in record[role] if domain["revision"] is None]
        if names:
            flags.append(f"--{role.replace('_', '-')} {' '.join(d['name'] for d in record[role])}")
            folders += names
    if hub_model(record["model"]) is None:
        flags.append(f"--model {model_location(record['model'])}")
        folders.append("the base")
    if not folders:
        return " ".join(flags), "Data and base are fetched at the commits that it names."
    return " ".join(flags), (
        f"{join_names(folders)} came from folders: give yours in their place; the fingerprints "
        "tell "
        "whether they hold the same."
    )


def base(record: Record) -> str:
    """What its weights were before."""
    model = record["model"]
    kind, _, digest = str(model["revision"]).rpartition(":")
    revision = f"`{kind}:{digest[:12]}`" if kind else f"`{digest[:12]}`"
    if is_from_scratch(model):
        return (
            f"It has no base: its weights were drawn at random with seed {record['config']['seed']}"
            f", and of `{model_location(model)}` it has the architecture alone, {revision}."
        )
    return f"The base is `{model_location(model)}`, {revision}."


def licenses(record: Record, sources: Mapping[str, ArchiveSpec], license: str | None) -> str:
    """What the weights are given under, and what they are made of is."""
    given = (
        f"The publisher gives the weights under `{license}`."
        if license
        else "The publisher has named no license for the weights."
    )
    parts = [
        f"{domain['name']}: `{sources[domain['name']].license}`"
        if domain["name"] in sources
        else f"{domain['name']}: see its own card"
        for role in ROLES
        for domain in record[role]
    ]
    said = f"{given} They were made from images ({'; '.join(parts)})"
    if not is_from_scratch(record["model"]):
        base = model_location(record["model"])
        said += f" and from `{base}`, whose license is on its own card"
    return f"{said}; check that yours is a use that all of them allow."

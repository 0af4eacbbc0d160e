"""Save the plain transformers model and its processor, so that nobody needs hf_wbc to use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hf_wbc.models.classifier import Classifier
from hf_wbc.models.exposure import KEY, Exposure
from hf_wbc.models.utils import quiet_transformers
from hf_wbc.records import replacing

NOTES = "hf_wbc_images"
"""Key in config.json of what `hf_wbc` has to know about images; transformers passes it over."""
ABSTENTION = "hf_wbc_abstention"
"""Key in config.json of temperature, conformal sets, reject option and review thresholds."""


def save_classifier(
    classifier: Classifier,
    processor: Any,
    folder: Path,
    notes: Mapping[str, Any] | None = None,
    exposure: Exposure | None = None,
    abstention: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json; the folder is replaced.

    `notes`, JSON values, tell how images are treated where that is more than the processor does;
    `exposure` tells what the weights have seen, `abstention`, JSON values too, how far the model's
    answers may be believed.

    `AutoModelForImageClassification.from_pretrained` and `pipeline` load it. The files are written
    aside first: a folder of that name is whole, before and after.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as aside:
        aside.mkdir()
        # With timm's own facts in it, transformers would take timm's processor instead of ours.
        facts = vars(classifier.model.config)
        facts.pop("pretrained_cfg", None)
        seen = exposure.to_dict() if exposure else None
        for key, values in ((NOTES, notes), (KEY, seen), (ABSTENTION, abstention)):
            facts.pop(key, None)
            if values is not None:
                facts[key] = dict(values)
        with quiet_transformers():
            try:
                classifier.model.save_pretrained(aside)
            except SafetensorError as error:
                raise OSError(f"{folder} cannot be written: {error}") from error
            processor.save_pretrained(aside)
        for file in aside.iterdir():  # safetensors writes for its owner alone
            file.chmod((aside / "config.json").stat().st_mode)

"""Which model a published Space shows: looked at, named in its card, told to it as a variable."""

import re

from hf_wbc.hub.asking import Report, ask
from hf_wbc.hub.destination import Destination, HubRepo
from hf_wbc.hub.remote import MAIN, look
from hf_wbc.inference.gallery import FILE as REFERENCE
from hf_wbc.models import load_trained

VARIABLE = "HF_WBC_MODEL"
"""What spaces/wbc/app.py reads."""
_MODEL = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")


def with_model(card: str, model: str) -> str:
    """The Space's README with the model in its front matter, where the Hub links to it.

    ValueError unless it is `org/name[@revision]`: a folder is not where the Space is.
    """
    from huggingface_hub import RepoCard

    if not _MODEL.fullmatch(model):
        raise ValueError(
            f"--model is {model!r}, and a Space finds its model on the Hub: publish it first, and "
            "give org/name[@revision]"
        )
    made = RepoCard(card, ignore_metadata_errors=True)
    made.data["models"] = [model.partition("@")[0]]
    return str(made)


def require_model(model: str, public: bool, report: Report) -> None:
    """ValueError unless the Hub's model loads as it will in the Space.

    And where everybody would see the Space, and in it cells that the model keeps to its owners.
    """
    from hf_wbc.hub.to_hub import connect

    api, (name, _, revision) = connect(report), model.partition("@")
    found = look(api, HubRepo(name, "model"), revision or MAIN, report)
    if found is None:
        raise ValueError(
            f"--model {model} is not at {api.endpoint}, or no token of yours reaches it; publish "
            "it first, or check its name and revision"
        )
    load_trained(model)
    if public and found.private and REFERENCE in found.paths:
        raise ValueError(
            f"--model {model} is private and holds pictures of cells ({REFERENCE}), and the Space "
            "would show them to everybody; publish it with --private"
        )


def show_model(destination: Destination, model: str, report: Report) -> None:
    """Set the variable by which the Space on the Hub finds its model."""
    assert isinstance(destination, HubRepo)
    from hf_wbc.hub.to_hub import connect

    api = connect(report)
    ask(
        f"setting {VARIABLE}",
        lambda: api.add_space_variable(destination.repo_id, VARIABLE, model),
        destination.repo_id,
        report,
    )
    report(
        f"{destination} shows {model}; if that is private, put a token that may read it into the "
        "Space's settings as the secret HF_TOKEN"
    )

"""Compare method families with source_only on toy laboratories: two sources, one unseen target.

hf-wbc quickstart
hf-wbc study docs/toy_families.py --out toy_runs
hf-wbc compare toy_runs
"""

from pathlib import Path

from hf_wbc.adaptation import load_method
from hf_wbc.config import TrainConfig
from hf_wbc.study.protocols import fitting_methods, sweep


def study(quickstart: str = "build/quickstart", seeds: int = 3) -> list[TrainConfig]:
    """Run methods on the quickstart model's frozen features; methods that need images fine-tune."""
    (model,) = Path(quickstart).glob("runs/*/model")
    data, network = f"{quickstart}/data", str(model)
    features = TrainConfig(
        sources=(f"{data}/toy_acevedo_20", f"{data}/toy_matek_19"),
        target=(f"{data}/toy_mll_23",),
        inputs="features",
        steps=200,
        batch_size=48,
        learning_rate=1e-3,
        eval_steps=50,
        selection="last",
    )
    images = features.replace(inputs="images", steps=60, learning_rate=5e-4, eval_steps=30)
    on_images = [name for name in fitting_methods(images) if load_method(name).needs.images]
    return [
        *sweep([features], (), (network,), seeds),
        *sweep([images], ("source_only", *on_images), (network,), seeds),
    ]

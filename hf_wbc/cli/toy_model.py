"""Train the toy model that ships with the page, in three minutes of CPU time.

    python -m hf_wbc.cli.toy_model spaces/wbc/toy_model

Shipping the trained model lets visitors start without waiting and gives everyone the same
predictions. It has only seen drawings; its 660 kB say nothing about real blood.
"""

import shutil
import sys
import tempfile
from pathlib import Path

HOME = ("acevedo_20", "matek_19")
STEPS, BATCH_SIZE, PEAK_LR = 500, 64, 3e-3
IMAGE_SIZE = 64
REFERENCE_PER_CLASS = 6


def make_toy_model(out: Path, work: Path) -> None:
    """Draw, prepare, train and build the reference set in `work`; write the model to `out`."""
    from hf_wbc.cli.display import print_results, train_in
    from hf_wbc.cli.toy import draw_toys, prepare_toys
    from hf_wbc.config import TrainConfig
    from hf_wbc.inference.build_gallery import build_reference_set
    from hf_wbc.inference.gallery import reference_set_path
    from hf_wbc.records import atomic_replace

    prepared = prepare_toys(draw_toys(work / "archives"), work / "data")
    sources = tuple(str(prepared[name]) for name in HOME)
    config = TrainConfig(
        sources=sources,
        target=tuple(str(folder) for name, folder in prepared.items() if name not in HOME),
        model=str(write_network(work / "network")),
        from_scratch=True,
        steps=STEPS,
        batch_size=BATCH_SIZE,
        learning_rate=PEAK_LR,
        eval_steps=STEPS // 5,
    )
    finished = train_in(config, work)
    print_results(finished.path, finished.read_record()["results"])
    build_reference_set(finished.model, sources, per_class=REFERENCE_PER_CLASS)
    with atomic_replace(out) as partial:
        shutil.copytree(finished.model, partial)
        found = reference_set_path(finished.model)
        shutil.copy(found, partial / found.name)


def write_network(folder: Path) -> Path:
    """Write the configuration of a residual network (He et al. 2016) with 67,000 weights."""
    from transformers import ResNetConfig, ViTImageProcessor

    config = ResNetConfig(
        embedding_size=24, hidden_sizes=[24, 32, 48], depths=[1, 1, 1], layer_type="basic"
    )
    config.save_pretrained(folder)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ViTImageProcessor(size=size, resample=3).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder to write, and nothing else: spaces/wbc/toy_model")
    with tempfile.TemporaryDirectory() as place:
        make_toy_model(Path(sys.argv[1]), Path(place))

"""How well a run's reject option separates cells outside the eleven classes from source cells.

    python tests/bench/outsiders.py RUN SOURCE FOLDER...

RUN is a run folder and SOURCE the name of one of its sources. Each FOLDER holds images of none of
the eleven classes from the same microscope as the source: Acevedo's `platelet`, or MLL23's
`smudge_cell`, `hairy_cell`, and so on. Up to 300 images of each are drawn with seed 0.
"""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy.special import softmax

from hf_wbc.data.crop import crop_and_resize
from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.engine.features import crop_geometry
from hf_wbc.evaluation.selective import auroc, energy
from hf_wbc.models import PretrainedModel, load_trained

NUM = 300
BATCH = 16


def main(run: Path, source: str, folders: list[Path]) -> None:
    """Print one row per folder."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    facts = import_module(f"dataset_scripts.{source}").SOURCE
    loaded = load_trained(str(run / "model"))
    abstention = fit_run_abstention(loaded)
    assert abstention is not None, f"{run} was trained before models knew of their doubt"
    inside = recorded(run / "predictions.parquet", source)
    away = abstention.rejection.rejects
    print(f"{source} test: {len(inside)} images, {away(inside).mean():.3f} rejected")
    print("| outside | images | AUROC, energy | AUROC, largest probability | rejected |")
    for folder in folders:
        outside = predicted(loaded, drawn(folder, facts.frame_px), facts.um_per_px)
        sure = [-softmax(logits, axis=1).max(1) for logits in (inside, outside)]
        areas = auroc(energy(inside), energy(outside)), auroc(*sure)
        row = f"| {folder.name} | {len(outside)} | {areas[0]:.3f} | {areas[1]:.3f} |"
        print(f"{row} {away(outside).mean():.3f} |")


def recorded(predictions: Path, source: str) -> np.ndarray:
    """Return the recorded logits (N, 11) of the source's test images."""
    table = pq.read_table(predictions, filters=[("domain", "==", source), ("split", "==", "test")])
    return np.array(table["logits"].to_pylist())


def drawn(folder: Path, frame_px: frozenset[tuple[int, int]]) -> list[Path]:
    """Return images that have the source's frame size, which identifies its session."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    fitting = (file for file in files if not frame_px or Image.open(file).size in frame_px)
    return [file for file, _ in zip(fitting, range(NUM), strict=False)]


@torch.inference_mode()
def predicted(loaded: PretrainedModel, files: list[Path], um_per_px: float) -> np.ndarray:
    """Return logits (N, 11) of images that are cropped and resized like those of a dataset."""
    geometry, logits = crop_geometry(loaded), []
    plain = ImagePreprocessing(loaded.preprocessing.mean, loaded.preprocessing.std)
    for start in range(0, len(files), BATCH):
        frames = [np.array(Image.open(f).convert("RGB")) for f in files[start : start + BATCH]]
        pixels = np.stack([crop_and_resize(frame, um_per_px, geometry) for frame in frames])
        logits.append(loaded.classifier(preprocess(torch.from_numpy(pixels), plain)).logits.numpy())
    return np.concatenate(logits)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]])

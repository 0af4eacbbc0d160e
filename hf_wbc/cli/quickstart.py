"""`hf-wbc quickstart`: the complete workflow on drawn cells, in a few minutes and offline.

It draws toy archives of three laboratories, prepares and audits them, trains a small network on one
laboratory, and evaluates it there and in the other two. At the end, the model that ships with
hf_wbc names real cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.escape import print_plain

if TYPE_CHECKING:
    from hf_wbc.plots.sample_sheet import Frame

HOME = "acevedo_20"
AWAY = ("matek_19", "mll_23")
SIZE = "small"
STEPS, BATCH_SIZE, PEAK_LR = 120, 48, 2e-3
"""Enough for a network of 1.2 million weights to learn some 400 drawings."""


def quickstart(out: KeptFolder = Path("build/quickstart"), seed: int = 0) -> None:
    """See in a few minutes how a classifier fails in another laboratory.

    Example: hf-wbc quickstart --out build/quickstart

    The cells are drawings; at the end, the shipped model names real ones. The same command resumes
    an interrupted run.

    Args:
        out: Folder for archives, datasets, audit, run and pictures.
        seed: Seed of drawings, splits, weights and batches.
    """
    from hf_wbc.cli.audit import audit
    from hf_wbc.cli.display import print_results, train_in
    from hf_wbc.cli.toy import draw_toys, prepare_toys, write_backbone
    from hf_wbc.config import TrainConfig
    from hf_wbc.preparation.toy_source import toy_name

    _announce(1, "draw the archives of three toy laboratories")
    archives = draw_toys(out / "archives", seed, SIZE)

    _announce(2, "prepare them: check, split, crop to 25 um")
    prepared = prepare_toys(archives, out / "data", seed)
    folders = {name: str(folder) for name, folder in prepared.items()}
    print_plain(*folders.values(), sep="\n")

    _announce(3, "audit them")
    audit(tuple(folders.values()), out / "audit")

    _announce(4, f"train on {toy_name(HOME)}, evaluate there and in the other laboratories")
    config = TrainConfig(
        sources=(folders[HOME],),
        target=tuple(folders[name] for name in AWAY),
        model=str(write_backbone(out / "backbone")),
        from_scratch=True,
        steps=STEPS,
        batch_size=BATCH_SIZE,
        learning_rate=PEAK_LR,
        eval_steps=STEPS // 2,
        augmentation="light",
        seed=seed,
    )
    finished = train_in(config, out)
    results = finished.read_record()["results"]
    print_results(finished.path, results)

    _announce(5, "plot the results")
    pictures = out / "pictures"
    pictures.mkdir(exist_ok=True)
    _draw_cells(list(folders.values()), pictures / "cells.png")
    _draw_confusions(results, pictures)
    print_plain(pictures)

    _announce(6, "name real cells with the model that ships with hf_wbc")
    name_real_cells()
    print_plain(f"\n{_closing(results, out, finished.path / 'model')}")


def _announce(number: int, what: str) -> None:
    print_plain(f"\n{number}/6 {what}", flush=True)


def name_real_cells() -> None:
    """Print what the shipped model says of the example cells, and what experts said."""
    from hf_wbc.app.examples import ATTRIBUTION, real_examples
    from hf_wbc.app.startup import SHIPPED
    from hf_wbc.inference.predictor import Predictor
    from hf_wbc.shipped import shipped
    from hf_wbc.taxonomy import NAMES

    cells = real_examples()
    predictor = Predictor.load(str(shipped(SHIPPED)))
    found = predictor.predict([each.picture().pixels for each in cells], cells[0].um_per_px)
    print_plain(f"{'image':13}{'label':22}{'prediction':22}probability")
    for cell, predicted in zip(cells, found, strict=True):
        print_plain(
            f"{cell.path.name:13}{NAMES[cell.label]:22}{NAMES[predicted.label]:22}"
            f"{predicted.probabilities[predicted.label]:.2f}"
        )
    print_plain(f"Cells of the test split of Acevedo_20: {ATTRIBUTION}")


def _draw_cells(folders: Sequence[str], path: Path, per_class: int = 3) -> None:
    """Draw frames of each class and domain with their 25 um squares."""
    from hf_wbc.plots.sample_sheet import draw_sample_sheet
    from hf_wbc.plots.style import save

    frames = [frame for folder in folders for frame in example_frames(folder, per_class)]
    save(draw_sample_sheet(frames, per_class), path)


def example_frames(ref: str, per_class: int, split: str = "train") -> "Iterator[Frame]":
    """Yield the first `per_class` whole frames of each class, in the order of the classes."""
    import numpy as np

    from hf_wbc.data.dataset import load_split
    from hf_wbc.data.stated_pixels import decode_row
    from hf_wbc.plots.sample_sheet import Frame
    from hf_wbc.taxonomy import NAMES

    domain = load_split(ref, split, "original")
    for label, name in enumerate(NAMES):
        for row in np.flatnonzero(domain.labels == label)[:per_class]:
            cell = domain.dataset.with_format("arrow")[int(row)].to_pylist()[0]
            pixels = decode_row(cell, f"{ref}: {cell['image_id']}")
            yield Frame(pixels, name, domain.name, cell["um_per_px"])


def _draw_confusions(results: Mapping[str, Any], folder: Path) -> None:
    from hf_wbc.plots.confusion import draw_confusion
    from hf_wbc.plots.style import save

    for domain, entry in results.items():
        save(draw_confusion(entry["test"], f"{domain}, test"), folder / f"confusion_{domain}.png")


def _closing(results: Mapping[str, Any], out: Path, model: Path) -> str:
    """Summarize the scores, and say what to do next."""
    home, *away = (entry["test"]["macro_f1"] for entry in results.values())
    scores = " and ".join(f"{score:.2f}" for score in away)
    return (
        f"macro-F1 is {home:.2f} at home and {scores} in the other laboratories (toy cells). The "
        f"model is in {model}.\n"
        f"Next: open {out / 'audit' / 'index.html'} and {out / 'pictures'}, then build a dataset "
        "of real cells: hf-wbc prepare --help"
    )

"""`hf-wbc train`, and `accelerate launch train.py`: train, score, and leave a run folder."""

from pathlib import Path
from typing import Literal

from hf_wbc.config import TrainConfig

Tracker = Literal["tensorboard", "trackio"]


def train(
    config: TrainConfig,
    out: Path = Path("runs"),
    cache: Path = Path("build/features"),
    trackers: tuple[Tracker, ...] = (),
) -> None:
    """Train a classifier on labelled sources and score it on every domain.

    The same command continues a run that was interrupted, and does nothing when it is finished.

    Args:
        config: What to train.
        out: Where run folders lie; a run's name is the digest of its configuration and data.
        cache: Where embedded features are kept (--inputs features).
        trackers: Where the curves go besides the run folder's history.jsonl.
    """
    from hf_wbc.cli.display import TrainingDisplay, print_results
    from hf_wbc.engine.run import run

    with TrainingDisplay(config) as display:
        folder = run(config, out, cache, trackers, display.report)
    if display.is_main:
        record = folder.read_record()
        print_results(folder.path, record["results"])
        shifts = record["label_shift"].values() if config.correct_priors != "none" else ()
        for note in (record["images"]["note"], *(shift["note"] for shift in shifts)):
            if note:
                print(note)

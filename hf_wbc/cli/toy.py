"""`hf-wbc toy`: draw archives of toy cells, for trying everything without a download."""

from pathlib import Path
from typing import Literal


def toy(
    out: Path = Path("build/toy"),
    seed: int = 0,
    size: Literal["tiny", "small", "full"] = "small",
) -> None:
    """Draw toy archives of three laboratories in the layouts of the real ones.

    The cells are drawings, and what a model reaches on them says nothing about blood. `hf-wbc
    prepare SOURCE --archive FOLDER` reads them like the archives that they stand for.

    Args:
        out: The folder for the archives; the same archives that lie there already are kept.
        seed: The same seed draws the same cells.
        size: Images in all: tiny 192, small 1,700 (0.2 GB), full 6,100 (0.7 GB).
    """
    from functools import partial

    from hf_wbc.cli.display import stage_bars
    from hf_wbc.toy.archives import draw_archives

    with stage_bars() as report:
        archives = draw_archives(out, seed, size, report=partial(report, "draw"))
    for source, archive in archives.items():
        print(f"{source}: {archive}")

"""`hf-wbc toy`: draw archives of toy cells to try everything without a download.

Also the preparation of toy laboratories for `quickstart` and the toy study.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from hf_wbc.cli.display import stage_progress
from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.escape import print_plain

SIZE = "small"
IMAGE_SIZE = 64


def toy(
    out: KeptFolder = Path("build/toy"),
    seed: int = 0,
    size: Literal["tiny", "small", "full"] = "small",
) -> None:
    """Draw toy archives of three laboratories.

    Example: hf-wbc toy --size tiny --out build/toy

    The archives have the layouts of the real ones. Scores on these drawings say nothing about real
    blood.

    Args:
        out: Folder for the archives; existing identical archives are kept.
        seed: Seed of the drawings.
        size: Total number of images: tiny 192, small 1,700 (0.2 GB), full 6,100 (0.7 GB).
    """
    for source, archive in draw_toys(out, seed, size).items():
        print_plain(f"{source}: {archive}")


def draw_toys(out: Path, seed: int = 0, size: str = SIZE) -> dict[str, Path]:
    """Draw the archives of three toy laboratories into `out`; return their folders by source.

    Archives that exist already are kept.
    """
    from hf_wbc.toy.archives import draw_archives

    with stage_progress() as on_progress:
        return draw_archives(out, seed, size, on_progress=partial(on_progress, "draw"))


def prepare_toys(archives: Mapping[str, Path], out: Path, seed: int = 0) -> dict[str, Path]:
    """Prepare toy archives in `out`; return the datasets' folders by source."""
    import dataset_scripts
    from hf_wbc.preparation.build import prepare
    from hf_wbc.preparation.toy_source import toy_name

    folders = {}
    for name, archive in archives.items():
        folder = out / toy_name(name)
        with stage_progress() as on_progress:
            prepare(dataset_scripts.load(name), archive, folder, seed=seed, on_progress=on_progress)
        folders[name] = folder
    return folders


def write_backbone(folder: Path) -> Path:
    """Write the configuration of a small residual network (He et al. 2016), without weights."""
    from transformers import ResNetConfig, ViTImageProcessor

    config = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1], layer_type="basic"
    )
    config.save_pretrained(folder)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ViTImageProcessor(size=size, resample=3).save_pretrained(folder)
    return folder


def make_toy_study(data: Path, domains: Iterable[str], backbone: str) -> None:
    """Draw and prepare what the toy study needs, unless it exists."""
    from hf_wbc.preparation.toy_source import toy_name

    wanted = set(domains)
    if not (data / backbone / "preprocessor_config.json").is_file():
        write_backbone(data / backbone)
    if not all((data / "data" / name).is_dir() for name in wanted):
        archives = draw_toys(data / "archives")
        mine = {name: path for name, path in archives.items() if toy_name(name) in wanted}
        prepare_toys(mine, data / "data")

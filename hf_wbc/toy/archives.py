"""Write the toy archives: drawn cells in the layout and format of the real archives.

Every image has its own random generator, seeded by the seed, the laboratory, the class and its
index, so its bytes depend neither on the number of processes nor on the size of the archive.

Each of the three toy laboratories imitates a real one: its class priors, and the layout, format and
file names of its archive, so that the same dataset script reads both. The numbers in the file names
are higher than in any real archive.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hf_wbc.data.parallel import WorkerPool, num_cores
from hf_wbc.file_lock import lock_output
from hf_wbc.preparation.toy_source import NOTICE
from hf_wbc.records import remove, remove_abandoned, temporary_sibling
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import did_you_mean
from hf_wbc.toy.acquisition import ACEVEDO, MATEK, MLL23, Pixels, ToyScanner, acquire
from hf_wbc.toy.smear import draw_field


@dataclass(frozen=True)
class Laboratory:
    """One domain of the toy data."""

    source: str
    """Name of the source, whose dataset script reads the archive."""
    archive: str
    """Folder of the archive."""
    member: str
    """Format of an image's path in it, with `folder`, `code`, `number` and `serial`."""
    scanner: ToyScanner
    codes: Mapping[str, str]
    """Code of each class in the archive; the archive lacks all other classes."""
    num_real: Mapping[str, int]
    """Number of images of each class in the real dataset, which gives the priors."""
    num_small: int
    """Number of images of the small archive, before the minimum per class is applied."""
    rare: frozenset[str] = frozenset()
    """Classes with `NUM_RARE` images at every size."""

    def path(self, cell_class: str, index: int) -> str:
        """Return the path of the index-th image (from 0) of a class."""
        code = self.codes[cell_class]
        return self.member.format(
            folder=FOLDERS.get(code, code),
            code=code,
            number=9001 + index,
            serial=900001 + 1000 * NAMES.index(cell_class) + index,
        )


NUM_RARE = 6
MAX_PER_CLASS = 999

SIZES: Mapping[str, tuple[float, int]] = {"tiny": (0.0, 6), "small": (1.0, 16), "full": (3.6, 48)}
"""Factor of `num_small`, and the minimum number of images per class, by size."""

FOLDERS = {
    "BA": "basophil", "EO": "eosinophil", "ERB": "erythroblast", "PMY": "ig", "MY": "ig",
    "MMY": "ig", "BNE": "neutrophil", "SNE": "neutrophil", "MO": "monocyte", "LY": "lymphocyte",
}  # fmt: skip


def _by_class(*values: tuple[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    """Return codes and numbers by class name, from one pair per class in the order of `NAMES`."""
    pairs = [(name, pair) for name, pair in zip(NAMES, values, strict=True) if pair[1]]
    return {name: code for name, (code, _) in pairs}, {name: num for name, (_, num) in pairs}


_ACEVEDO = _by_class(
    ("BA", 1168), ("EO", 3067), ("ERB", 1499), ("", 0), ("PMY", 592), ("MY", 1137),
    ("MMY", 1015), ("BNE", 1633), ("SNE", 1646), ("MO", 1370), ("LY", 1164),
)  # fmt: skip
_MATEK = _by_class(
    ("BAS", 79), ("EOS", 424), ("EBO", 78), ("MYO", 3268), ("PMO", 70), ("MYB", 42),
    ("MMZ", 15), ("NGB", 109), ("NGS", 8484), ("MON", 1815), ("LYT", 3937),
)  # fmt: skip
_MLL = _by_class(
    ("basophil", 616), ("eosinophil", 2448), ("normoblast", 2071), ("myeloblast", 8606),
    ("promyelocyte", 745), ("myelocyte", 747), ("metamyelocyte", 483), ("neutrophil_band", 687),
    ("neutrophil_segmented", 7170), ("monocyte", 2510), ("lymphocyte", 5532),
)  # fmt: skip

LABORATORIES = (
    Laboratory(
        "acevedo_20", "PBC_dataset_normal_DIB", "{folder}/{code}_{serial}.jpg",
        ACEVEDO, *_ACEVEDO, num_small=600,
    ),
    Laboratory(
        "matek_19", "AML-Cytomorphology_LMU", "AML-Cytomorphology/{code}/{code}_{number}.tiff",
        MATEK, *_MATEK, num_small=500, rare=frozenset({"metamyelocyte"}),
    ),
    Laboratory(
        "mll_23", "MLL23", "{code}/{code}_{number}.TIF",
        MLL23, *_MLL, num_small=480,
    ),
)  # fmt: skip


def num_images(laboratory: Laboratory, size: str) -> dict[str, int]:
    """Return the number of images to draw by class name; ValueError for an unknown size."""
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; {did_you_mean(size, SIZES)}")
    multiple, fewest = SIZES[size]
    total = sum(laboratory.num_real.values())
    numbers = {}
    for name, num_real in laboratory.num_real.items():
        share = round(multiple * laboratory.num_small * num_real / total)
        number = NUM_RARE if name in laboratory.rare else max(fewest, share)
        numbers[name] = min(number, MAX_PER_CLASS)
    return numbers


RECIPE_VERSION = 1
"""Version of the drawings. Raise it when the pixels of any image change, so that archives of
different versions are not mixed."""
COMMENT = "toy: drawn by hf_wbc, no cell of a person"
PREDICTOR = {317: 2}
"""TIFF tag Predictor: compress the differences of neighboring pixels."""
LARGE_BYTES = 2**25 - 2**16
IMAGES_PER_PROCESS = 100
"""Minimum; fewer images take less time than starting another process."""

Job = tuple[int, str, int]
"""Index of the laboratory, class name, index of the image in its class."""


def draw_archives(
    out: Path,
    seed: int = 0,
    size: str = "small",
    num_proc: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Path]:
    """Draw the archives into a folder.

    Existing archives of the same recipe are kept. If drawing fails, nothing remains.

    Args:
        out: Folder of the archives.
        seed: Seed of all images.
        size: tiny (6 images per class), small (about 600 per laboratory) or full (about 2,000).
        num_proc: Number of processes; None chooses it.
        on_progress: Called with the number of images done and the total.

    Returns:
        Folder of each archive, by the name of its source.

    Raises:
        ValueError: If the seed is negative, the size unknown, the number of processes less than
            one, or `out` contains one of the archives already, toy or real.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    if num_proc is not None and num_proc < 1:
        raise ValueError(f"num_proc is {num_proc}; it must be at least 1")
    jobs = list(_jobs(size))
    notice = _notice(seed, size)
    archives = {lab.source: out / lab.archive for lab in LABORATORIES}
    if _is_drawn(out, archives, notice):
        return archives
    with lock_output(out / "drawing"):
        _draw(jobs, out, notice, seed, num_proc, on_progress)
    return archives


def _draw(
    jobs: list[Job],
    out: Path,
    notice: str,
    seed: int,
    num_proc: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Draw all images in a scratch folder, and move the archives to `out`."""
    remove_abandoned(out / "drawing")
    scratch = temporary_sibling(out / "drawing")
    try:
        for folder in {(scratch / _member(job)).parent for job in jobs}:
            folder.mkdir(parents=True, exist_ok=True)
        _draw_all(jobs, scratch, seed, num_proc, on_progress)
        _annotate(scratch, jobs)
        for laboratory in LABORATORIES:
            (scratch / laboratory.archive / NOTICE).write_text(notice, "utf-8")
        for laboratory in LABORATORIES:
            (scratch / laboratory.archive).rename(out / laboratory.archive)
        (out / NOTICE).write_text(notice, "utf-8")
    finally:
        remove(scratch)


def draw_image(laboratory: Laboratory, cell_class: str, index: int, seed: int = 0) -> Pixels:
    """Draw one image (H, W, 3), uint8, before compression."""
    key = [seed, LABORATORIES.index(laboratory), NAMES.index(cell_class), index]
    rng = np.random.default_rng(key)
    scanner = laboratory.scanner
    field = draw_field(cell_class, rng, scanner.crowding, scanner.view_um)
    return acquire(field, scanner, rng)


def _jobs(size: str) -> Iterator[Job]:
    for index, laboratory in enumerate(LABORATORIES):
        for name, number in num_images(laboratory, size).items():
            for image in range(number):
                yield index, name, image


def _member(job: Job) -> str:
    laboratory = LABORATORIES[job[0]]
    return f"{laboratory.archive}/{laboratory.path(job[1], job[2])}"


def _is_drawn(out: Path, archives: dict[str, Path], notice: str) -> bool:
    """Return whether these archives exist; ValueError if others do."""
    existing = [path for path in archives.values() if path.exists()]
    if not existing and not (out / NOTICE).exists():
        return False
    if len(existing) == len(archives) and (out / NOTICE).is_file():
        found = (out / NOTICE).read_text("utf-8")
        if found.splitlines()[-1:] == notice.splitlines()[-1:]:
            return True
        raise ValueError(
            f"{out} contains toy archives of another recipe ({found.splitlines()[-1]}); "
            "remove it, or choose another --out"
        )
    raise ValueError(
        f"{(existing or [out / NOTICE])[0]} already exists, and toy archives are not mixed with "
        "others; choose another --out"
    )


def _notice(seed: int, size: str) -> str:
    """Return the text of TOY.txt; its last line identifies the images."""
    return (
        "TOY DATA. These images are drawings, made by `hf-wbc toy`; they show no real cells.\n"
        "Layout and file names are those of the real archives, so that the same scripts read\n"
        "them. Use them to try things out. Scores on them say nothing about real blood.\n"
        f"seed {seed}, size {size}, recipe {RECIPE_VERSION}\n"
    )


def _draw_all(
    jobs: list[Job],
    scratch: Path,
    seed: int,
    num_proc: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Draw and write all images, in one or more processes."""
    limit = -(-len(jobs) // IMAGES_PER_PROCESS)
    with WorkerPool(num_proc or min(limit, num_cores()), (scratch, seed)) as workers:
        for done, _ in enumerate(workers.run(_write, jobs)):
            if on_progress:
                on_progress(done + 1, len(jobs))


def _write(state: tuple[Path, int], *job: *Job) -> None:
    """Draw one image and write it in the format of its archive."""
    # glibc returns freed blocks to the system until a larger one has been freed; allocating them
    # again takes a fifth of the time.
    np.empty(LARGE_BYTES, np.uint8)
    scratch, seed = state
    laboratory = LABORATORIES[job[0]]
    image = Image.fromarray(draw_image(laboratory, job[1], job[2], seed))
    path = scratch / _member(job)
    if path.suffix == ".jpg":
        image.save(path, "JPEG", quality=75, subsampling=0, comment=COMMENT)
        return
    if path.suffix == ".tiff":
        image.putalpha(255)
    # Matek's TIFFs are not compressed; these are, which reduces half a gigabyte to a fifth.
    image.save(path, "TIFF", compression="tiff_lzw", tiffinfo=PREDICTOR, description=COMMENT)


def _annotate(scratch: Path, jobs: list[Job]) -> None:
    """Write the tables of AML-Cytomorphology_LMU, without second annotations."""
    index = next(i for i, lab in enumerate(LABORATORIES) if lab.source == "matek_19")
    laboratory = LABORATORIES[index]
    rows = []
    for lab, name, image in jobs:
        if lab == index:
            path = laboratory.path(name, image).split("/", 1)[1]
            rows.append(f"{path} {laboratory.codes[name]} nan nan\n")
    folder = scratch / laboratory.archive
    (folder / "annotations.dat").write_text("".join(rows), "utf-8")
    meanings = [f"{code}\t{name}\n" for name, code in laboratory.codes.items()]
    (folder / "abbreviations.txt").write_text("".join(meanings), "utf-8")

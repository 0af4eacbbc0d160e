"""Write the toy archives: the layout, format and names of the real ones, drawn cells inside.

Every image has its own random numbers, from the seed, the laboratory, the class and its index, so
that the bytes depend neither on the number of processes nor on the size of the archive.

Whom the three toy laboratories take after: priors, and how an archive is laid out and named.

A toy archive has the layout, the format and the names of the one it stands for, so that the same
dataset script reads it. The numbers in its names start where no real archive's do.
"""

import hashlib
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
    """One domain of the toy."""

    source: str
    """Name of the source whose dataset script reads the archive."""
    archive: str
    """The archive's folder."""
    member: str
    """Path of an image inside it, of `folder`, `code`, `number` and `serial`."""
    scanner: ToyScanner
    codes: Mapping[str, str]
    """The archive's code by class name; a class that is not here is not in the archive."""
    num_real: Mapping[str, int]
    """Images of the real dataset by class name: the priors."""
    num_small: int
    """Images of the small archive, before rare classes are topped up."""
    rare: frozenset[str] = frozenset()
    """Classes that are left at `NUM_RARE`, whatever the size."""

    def path(self, cell_class: str, index: int) -> str:
        """The member's path of the index-th image of a class, from 0."""
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
"""Multiple of `num_small`, and the fewest images of a class."""

FOLDERS = {
    "BA": "basophil", "EO": "eosinophil", "ERB": "erythroblast", "PMY": "ig", "MY": "ig",
    "MMY": "ig", "BNE": "neutrophil", "SNE": "neutrophil", "MO": "monocyte", "LY": "lymphocyte",
}  # fmt: skip


def _by_class(*values: tuple[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    """Codes and numbers by class name, from one pair a class in the order of `NAMES`."""
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
    """Images to draw by class name; ValueError for an unknown size."""
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; {did_you_mean(size, SIZES)}")
    multiple, fewest = SIZES[size]
    total = sum(laboratory.num_real.values())
    numbers = {}
    for name, num_real in laboratory.num_real.items():
        share = round(multiple * laboratory.num_small * num_real / total)
        wanted = NUM_RARE if name in laboratory.rare else max(fewest, share)
        numbers[name] = min(wanted, MAX_PER_CLASS)
    return numbers


COMMENT = "toy: drawn by hf_wbc, no cell of a person"
PREDICTED = {317: 2}
"""The tag that has differences of neighbours compressed."""
LARGE_BYTES = 2**25 - 2**16
IMAGES_PER_PROCESS = 100
"""Fewer are drawn sooner than another process has started."""

Job = tuple[int, str, int]
"""Index of the laboratory, class name, index of the image in its class."""


def draw_archives(
    out: Path,
    seed: int = 0,
    size: str = "small",
    num_proc: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Path]:
    """Draw the archives into the folder `out`; each archive's folder by the name of its source.

    `size` is tiny (6 images a class), small (some 600 a laboratory) or full (some 2,000).
    `on_progress` is told the number of images that are done and their total. Archives of the same
    recipe that lie there already are kept. Nothing is left behind when drawing fails.

    ValueError for a negative seed, an unknown size, fewer than one process, and a folder in which
    one of the archives, toy or real, lies already.
    """
    if seed < 0:
        raise ValueError(f"the seed is {seed}; give --seed a number from 0 on")
    if num_proc is not None and num_proc < 1:
        raise ValueError(f"num_proc is {num_proc}; give at least one process")
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
    """The pixels (H, W, 3) uint8 of one image of the toy, before its format's compression."""
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
    """Whether these very archives lie there; ValueError when others do."""
    there = [path for path in archives.values() if path.exists()]
    if not there and not (out / NOTICE).exists():
        return False
    if len(there) == len(archives) and (out / NOTICE).is_file():
        found = (out / NOTICE).read_text("utf-8")
        if found == notice:
            return True
        raise ValueError(
            f"{out} holds toy archives of another recipe ({found.splitlines()[-1]}); "
            "remove it or give another --out"
        )
    raise ValueError(
        f"{(there or [out / NOTICE])[0]} exists already, and toy archives are never mixed with "
        "others; give another --out"
    )


def _notice(seed: int, size: str) -> str:
    """What TOY.txt says; its last line is the recipe."""
    drawing = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        drawing.update(path.read_bytes())
    return (
        "TOY DATA. These are drawings, made by `hf-wbc toy`; no cell here is of a person.\n"
        "They are laid out and named like the archives they stand for, so that the same scripts\n"
        "read them, and they are good for trying things out. No number that a model reaches on\n"
        "them says anything about blood.\n"
        f"seed {seed}, size {size}, drawing {drawing.hexdigest()[:12]}\n"
    )


def _draw_all(
    jobs: list[Job],
    scratch: Path,
    seed: int,
    num_proc: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Draw and write every image, in this process or in several."""
    limit = -(-len(jobs) // IMAGES_PER_PROCESS)
    with WorkerPool(num_proc or min(limit, num_cores()), (scratch, seed)) as workers:
        for done, _ in enumerate(workers.run(_write, jobs)):
            if on_progress:
                on_progress(done + 1, len(jobs))


def _write(state: tuple[Path, int], *job: *Job) -> None:
    """Draw one image and write it in its archive's format."""
    # glibc returns freed blocks to the system until it has seen a larger one freed; asking for
    # them anew takes a fifth of the time.
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
    # Matek's are not compressed; the toy's are, so that half a gigabyte becomes a fifth.
    image.save(path, "TIFF", compression="tiff_lzw", tiffinfo=PREDICTED, description=COMMENT)


def _annotate(scratch: Path, jobs: list[Job]) -> None:
    """The tables of AML-Cytomorphology_LMU; nobody has annotated a toy a second time."""
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

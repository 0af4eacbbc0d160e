"""Write an audit as a folder: index.html with every picture embedded, audit.json, pictures, maps.

The page is one file that loads nothing else, so it can be sent by e-mail. audit.json contains every
number of the page and every image of every finding, for machines.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from hf_wbc import __version__
from hf_wbc.audit.composition import class_counts, group_by_domain, prior_distances
from hf_wbc.audit.confounds import size_text
from hf_wbc.audit.leaks import shared_between
from hf_wbc.audit.measure import FolderReading
from hf_wbc.audit.run_audit import Audit
from hf_wbc.data.schema import SPLITS
from hf_wbc.data.stated_pixels import decode_row
from hf_wbc.plots.html import data_uri, render_page
from hf_wbc.preparation.source import KINDS, Finding
from hf_wbc.records import require_own_folder, write_json
from hf_wbc.taxonomy import NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


RECORD_VERSION = 1
PAGE = "index.html"
RECORD = "audit.json"
TEMPLATE = "model_cards/audit.html"
_LIBRARIES = ("numpy", "pillow", "scikit-learn", "umap-learn")
_NUM_EXAMPLES = 4
_EXAMPLE_PX = 150
_MAX_PICTURE_PX = 1600
_MAX_FULL_COLOR_BYTES = 250_000


def check_output_folder(out: Path) -> None:
    """Raise ValueError unless `out` is a previous audit, empty or absent."""
    require_own_folder(out, RECORD, "hf-wbc audit")


def write_audit(folder: Path, audit: Audit) -> None:
    """Write the audit into the empty folder `folder`."""
    pictures = folder / "pictures"
    pictures.mkdir()
    drawn = _draw(audit, pictures)
    write_json(folder / RECORD, to_record(audit))
    _write_maps(folder / "maps.parquet", audit)
    (folder / PAGE).write_text(render(audit, drawn), encoding="utf-8")


def to_record(audit: Audit) -> dict[str, Any]:
    """Return the audit as plain values for audit.json.

    `undeclared` is the number of findings that CI should fail on.
    """
    reading = audit.reading
    return {
        "version": RECORD_VERSION,
        "undeclared": len(audit.undeclared),
        "folders": [
            {
                "path": folder.path,
                "domain": folder.name,
                "config": folder.config,
                "um_per_px": folder.um_per_px,
                "num_images": {split.split: len(split) for split in folder.splits},
                "fingerprints": {split.split: split.fingerprint for split in folder.splits},
                "declared": folder.declared,
            }
            for folder in reading.folders
        ],
        "findings": [
            {**asdict(finding), "rows": [named(reading, rows) for rows in finding.rows]}
            for finding in audit.findings
        ],
        "not_found": not_found(audit),
        "classes": group_by_domain(reading),
        "splits": {
            folder.name: {
                split: dict(zip(NAMES, of, strict=True))
                for split, of in zip(SPLITS, counts, strict=True)
            }
            for folder, counts in zip(reading.folders, class_counts(reading).tolist(), strict=True)
        },
        "class_share_distances": [
            {"domains": list(pair), "total_variation": distance}
            for pair, distance in prior_distances(reading).items()
        ],
        "shared": [
            {
                "domains": list(shared.domains),
                "identical": len(shared.identical),
                "overlapping": len(shared.overlapping),
            }
            for shared in shared_between(reading, audit.duplicates)
        ],
        "appearance": [asdict(appearance) for appearance in audit.appearances],
        "background": {
            question: {**asdict(probe), "gives_away": probe.gives_away}
            for question, probe in audit.probes.items()
        },
        **_view_facts(audit),
        "versions": {"hf_wbc": __version__} | {name: version(name) for name in _LIBRARIES},
    }


def _view_facts(audit: Audit) -> dict[str, Any]:
    """Return what each feature space holds of class and laboratory."""
    return {
        "neighbors": {
            view.name: {
                "class": view.classes and asdict(view.classes),
                "domain": view.domains and asdict(view.domains),
            }
            for view in audit.views
        },
        "representation": {
            view.name: view.representation and view.representation.to_dict() for view in audit.views
        },
    }


def not_found(audit: Audit) -> list[str]:
    """Return the kinds of findings that were checked without a result.

    Kinds that could not be checked, for example without labels, are not included.
    """
    reading = audit.reading
    has_labels = bool((reading.labels >= 0).any())
    can_be = {
        "two_labels": has_labels,
        "class_missing_in_split": has_labels,
        "group_across_splits": any(group is not None for group in reading.groups),
        "shared_between_datasets": len(reading.folders) > 1,
        "frame_sizes": any(folder.um_per_px is not None for folder in reading.folders),
        "background_class": any(question.startswith("class of") for question in audit.probes),
    }
    found = {finding.kind for finding in audit.findings}
    return [kind for kind in KINDS if kind not in found and can_be.get(kind, True)]


def named(reading: FolderReading, rows: Iterable[int]) -> list[dict[str, Any]]:
    """Describe rows by domain, split, image id and label."""
    return [
        {
            "domain": reading.domain(row),
            "split": SPLITS[reading.split[row]],
            "image_id": reading.image_ids[row],
            "label": NAMES[reading.labels[row]] if reading.labels[row] >= 0 else None,
        }
        for row in rows
    ]


def render(audit: Audit, pictures: dict[str, Path]) -> str:
    """Render the page; `pictures` maps their names to files."""
    values = {
        "record": to_record(audit),
        "audit": audit,
        "findings": [(finding, _examples(audit.reading, finding)) for finding in audit.findings],
        "nothing": [KINDS[kind] for kind in not_found(audit)],
        "pictures": {name: _embedded(path) for name, path in pictures.items()},
        "names": NAMES,
        "splits": SPLITS,
        "num_images": len(audit.reading),
    }
    return render_page(TEMPLATE, {"px": _px}, values)


def _draw(audit: Audit, folder: Path) -> dict[str, Path]:
    """Draw the pictures and return their files by name."""
    from hf_wbc.plots.cell_map import draw_classes_map, draw_domains_map
    from hf_wbc.plots.class_distribution import draw_background, draw_class_matrix
    from hf_wbc.plots.style import save

    reading = audit.reading
    figures: dict[str, Figure] = {}
    if counts := group_by_domain(reading):
        figures["classes"] = draw_class_matrix(counts)
    for folder_read in reading.folders:
        name = folder_read.name
        if probe := audit.probes.get(f"class of {name}"):
            figures[f"background_{name}"] = draw_background(
                probe.names, probe.recall, probe.recall_interval, probe.numbers, probe.chance
            )
    domains = [folder_read.name for folder_read in reading.folders]
    for number, view in enumerate(audit.views):
        if counts:
            figures[f"map_{number}_class"] = draw_classes_map(view.map.xy, reading.labels)
        if len(domains) > 1 or not counts:
            figures[f"map_{number}_domain"] = draw_domains_map(view.map.xy, reading.folder, domains)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in figures}


def _write_maps(path: Path, audit: Audit) -> None:
    """Write the position of each cell in each map, for users' own plots."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    reading = audit.reading
    columns: dict[str, Any] = {
        "domain": [reading.domain(row) for row in range(len(reading))],
        "split": [SPLITS[split] for split in reading.split],
        "image_id": reading.image_ids,
        "label": reading.labels,
    }
    for view in audit.views:
        columns |= {f"{view.name}_{axis}": view.map.xy[:, i] for i, axis in enumerate("xy")}
    pq.write_table(pa.table(columns), path)


def _examples(reading: FolderReading, finding: Finding) -> list[list[dict[str, Any]]]:
    """Return the first rows of a finding, with their frames."""
    return [
        [
            {**facts, "image": _frame(reading, row)}
            for row, facts in zip(rows, named(reading, rows), strict=True)
        ]
        for rows in (rows[:_NUM_EXAMPLES] for rows in finding.rows[:_NUM_EXAMPLES])
    ]


def _frame(reading: FolderReading, row: int) -> str:
    """Encode a frame as a small JPEG in a data URI."""
    number = reading.folder[row]
    domain = reading.folders[number].splits[reading.split[row]]
    same = (reading.folder == number) & (reading.split == reading.split[row])
    (facts,) = domain.dataset.with_format("arrow")[int(same[:row].sum())].to_pylist()
    image = Image.fromarray(decode_row(facts, reading.image_ids[row]))
    image.thumbnail((_EXAMPLE_PX, _EXAMPLE_PX))
    return data_uri(image, "JPEG", quality=85)


def _embedded(path: Path) -> dict[str, Any]:
    """Encode a picture as a data URI, with its size on high-density screens.

    Large pictures are reduced to 256 colors.
    """
    with Image.open(path, formats=("PNG",)) as image:
        picture = image.convert("RGB")
    picture.thumbnail((_MAX_PICTURE_PX, _MAX_PICTURE_PX * 4))
    if path.stat().st_size > _MAX_FULL_COLOR_BYTES:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    uri = data_uri(picture, "PNG", optimize=True)
    return {"uri": uri, "width": picture.width // 2, "height": picture.height // 2}


def _px(size: Sequence[int] | None) -> str:
    return size_text(size) if size else "several"

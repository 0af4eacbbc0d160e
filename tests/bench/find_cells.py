"""How well the finder finds the white cells that people boxed; fit its score.

    python tests/bench/find_cells.py FIELDS BOXES [--half even|odd] [--fit] [--overlays FOLDER]
        [--um-per-px X]

Fields are matched to boxes (Pascal VOC or YOLO) by name. `--half` takes the fields whose number is
even or odd. Without `--um-per-px`, the red cells of all fields together give the scale. `--fit`
fits the score to these fields, by 5-fold cross-validation over fields, and writes
`hf_wbc/finder/cell_score.json`. `--overlays` draws the fields with a missed or an extra cell.
"""

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_wbc.data.image_io import IMAGE_SUFFIXES, decode_rgb
from hf_wbc.data.red_cells import red_cell_diameters
from hf_wbc.data.scale import scale_from_red_cells
from hf_wbc.finder import cell_score, detect_cells
from hf_wbc.finder.boxes import Box, Match, find_box_files, match_boxes, read_boxes, total


def main() -> None:
    """Print recall and precision, or fit the score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("fields", type=Path)
    parser.add_argument("boxes", type=Path)
    parser.add_argument("--half", choices=["even", "odd"])
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--overlays", type=Path)
    parser.add_argument("--um-per-px", type=float)
    given = parser.parse_args()
    files = find_box_files(given.boxes)
    fields = []
    for path in sorted(given.fields.rglob("*")):
        if (
            path.suffix.lower() in IMAGE_SUFFIXES
            and path.stem in files
            and _is_in(path, given.half)
        ):
            pixels = decode_rgb(path.read_bytes(), path.name)
            size = (pixels.shape[1], pixels.shape[0])
            fields.append((path.stem, pixels, read_boxes(files[path.stem], size)))
    um_per_px = given.um_per_px or _scale([pixels for _, pixels, _ in fields])
    print(f"{len(fields)} fields, {um_per_px:.4f} um per pixel")
    if given.fit:
        fit(fields, um_per_px)
    start = time.process_time()
    found = {name: detect_cells.find_cells(pixels, um_per_px) for name, pixels, _ in fields}
    seconds = time.process_time() - start
    matches = []
    for name, pixels, boxes in fields:
        match = match_boxes([(c.x_px, c.y_px) for c in found[name]], boxes, um_per_px)
        matches.append(match)
        if given.overlays and (match.missed or match.extra):
            given.overlays.mkdir(exist_ok=True, parents=True)
            draw(pixels, boxes, match).save(given.overlays / f"{name}.png")
    all_ = total(matches)
    print(
        f"{all_.num_boxes} boxes, {all_.num_found} found: recall {all_.recall:.3f}, precision "
        f"{all_.precision:.3f}; {1e3 * seconds / len(fields):.0f} ms per field"
    )
    each = list(zip([name for name, _, _ in fields], matches, strict=True))
    print("missed in", ", ".join(name for name, match in each if match.missed))
    print("extra in", ", ".join(name for name, match in each if match.extra))


def _is_in(path: Path, half: str | None) -> bool:
    number = re.search(r"(\d+)$", path.stem)
    return half is None or (number is not None and int(number[1]) % 2 == (half == "odd"))


def _scale(images: list[np.ndarray]) -> float:
    found = scale_from_red_cells([d for pixels in images for d in red_cell_diameters(pixels)])
    if found is None:
        raise SystemExit("too few red cells to estimate the scale; give --um-per-px")
    return found[0]


def fit(fields: list[tuple[str, np.ndarray, tuple[Box, ...]]], um_per_px: float) -> None:
    """Fit the score to the candidates of fields, and write it."""
    rows, is_cell, group, missed = [], [], [], []
    for number, (name, pixels, boxes) in enumerate(fields):
        size = pixels.shape[:2]
        found = [
            each
            for tile in detect_cells.tiles(*size, um_per_px)
            for each in detect_cells.candidates(_reader(pixels), size, um_per_px, tile)
        ]
        points = [(c.cell.x_px, c.cell.y_px) for c in found]
        match = match_boxes(points, boxes, um_per_px)
        if match.missed:
            missed.append(name)
        rows += [c.measured for c in found]
        is_cell += [point not in match.extra for point in points]
        group += [number] * len(found)
    values, is_cell = cell_score.expand(np.stack(rows)), np.array(is_cell)
    print(f"{len(rows)} candidates, {is_cell.sum()} cells; no candidate in {', '.join(missed)}")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
    held = cross_val_predict(
        model, values, is_cell, groups=group, cv=GroupKFold(5), method="predict_proba"
    )[:, 1]
    for limit in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        kept = held >= limit
        print(
            f"cross-validated at {limit}: recall {(kept & is_cell).sum() / is_cell.sum():.3f} of "
            f"the candidates, precision {(kept & is_cell).sum() / kept.sum():.3f}"
        )
    model.fit(values, is_cell)
    scaler, regression = model[0], model[1]
    out = Path(cell_score.__file__).with_suffix(".json")
    facts = {
        "measurements": list(cell_score.NAMES),
        "mean": scaler.mean_.round(6).tolist(),
        "scale": scaler.scale_.round(6).tolist(),
        "weights": regression.coef_[0].round(6).tolist(),
        "intercept": round(float(regression.intercept_[0]), 6),
        "fitted_on": f"{len(fields)} fields, {int(is_cell.sum())} white cells, {len(rows)} nuclei",
    }
    out.write_text(json.dumps(facts, indent=1) + "\n")
    cell_score._weights.cache_clear()


def _reader(pixels: np.ndarray) -> detect_cells.Read:
    return lambda top, left, bottom, right: pixels[top:bottom, left:right]


def draw(pixels: np.ndarray, boxes: tuple[Box, ...], match: Match) -> Image.Image:
    """Draw the boxes in green, missed ones in red, and extra cells as yellow circles."""
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    for box in boxes:
        color = "red" if box.center in match.missed else "lime"
        pen.rectangle((box.left, box.top, box.right, box.bottom), outline=color, width=3)
    for x, y in match.extra:
        pen.ellipse((x - 40, y - 40, x + 40, y + 40), outline="yellow", width=4)
    return image


if __name__ == "__main__":
    main()

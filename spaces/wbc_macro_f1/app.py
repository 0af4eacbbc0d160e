"""The metric in a browser: paste or upload labels and predictions, read the scores."""

import csv
import io
from pathlib import Path
from typing import Any

import evaluate
import gradio as gr

FOLDER = Path(__file__).parent
METRIC = evaluate.load(str(FOLDER / "wbc_macro_f1.py"))
EXAMPLE = """\
reference,prediction
neutrophil_segmented,neutrophil_segmented
neutrophil_segmented,neutrophil_banded
myelocyte,metamyelocyte
monocyte,monocyte
monocyte,myeloblast
lymphocyte_typical,lymphocyte_typical
"""
NAMES = METRIC.compute(predictions=[0], references=[0])["class_names"]


def read(text: str) -> tuple[list[float], list[float]]:
    """References and predictions from CSV with a header; class names or ids."""
    rows = csv.DictReader(io.StringIO(text.strip()))
    if not {"reference", "prediction"} <= set(rows.fieldnames or ()):
        raise gr.Error("The first line must name the columns reference and prediction.")
    pairs = [(class_id(row["reference"]), class_id(row["prediction"])) for row in rows]
    return [a for a, _ in pairs], [b for _, b in pairs]


def class_id(cell: str | None) -> float:
    """A name's id, or the number that the cell holds."""
    cell = (cell or "").strip()
    if cell in NAMES:
        return NAMES.index(cell)
    try:
        return float(cell)
    except ValueError:
        raise gr.Error(f"{cell!r} is neither a class name nor a class id.") from None


def compute(
    text: str, merge: str, classes: list[str]
) -> tuple[str, list[list[Any]], dict[str, list[Any]]]:
    """A headline, the table by class and the confusion matrix."""
    references, predictions = read(text)
    try:
        scores = METRIC.compute(
            references=references,
            predictions=predictions,
            merge=merge.split(),
            classes=classes,
            intervals=True,
        )
    except ValueError as error:
        raise gr.Error(str(error)) from error
    low, high = scores["intervals"]["macro_f1"]
    headline = (
        f"### macro-F1 {scores['macro_f1']:.3f} over {scores['num_classes']} classes\n"
        f"95 % interval {low:.3f} to {high:.3f} · accuracy {scores['accuracy']:.3f} · balanced "
        f"accuracy {scores['balanced_accuracy']:.3f} · {scores['num_images']} images"
    )
    per_class = [
        [name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), row["support"]]
        for name, row in scores["per_class"].items()
    ]
    names = scores["class_names"]
    rows = zip(names, scores["confusion"], strict=True)
    present = [[name, *counts] for name, counts in rows if any(counts)]
    return headline, per_class, {"headers": ["true \\ predicted", *names], "data": present}


def build() -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="WBC macro-F1", analytics_enabled=False) as page:
        gr.Markdown("# WBC macro-F1\nScores for classifiers of white blood cells.")
        with gr.Row():
            with gr.Column():
                text = gr.Textbox(EXAMPLE, lines=12, label="CSV: reference,prediction")
                merge = gr.Textbox(label="Merge", placeholder="FROM=INTO FROM=INTO")
                classes = gr.Dropdown(NAMES, multiselect=True, label="Classes (none: all present)")
                button = gr.Button("Score", variant="primary")
            with gr.Column():
                headline = gr.Markdown()
                columns = ["class", "precision", "recall", "f1", "images"]
                per_class = gr.Dataframe(headers=columns, label="By class")
                confusion = gr.Dataframe(label="Confusion matrix", show_row_numbers=False)
        gr.on(
            [button.click, page.load],
            compute,
            [text, merge, classes],
            [headline, per_class, confusion],
        )
    return page


if __name__ == "__main__":
    build().launch()

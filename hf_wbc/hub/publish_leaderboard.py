"""Publish a leaderboard: a static Space that is built from the result files of a dataset."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.hub.benchmark import EVAL_FILE, RESULTS_FOLDER, read_benchmark
from hf_wbc.hub.client import OnEvent, connect, request
from hf_wbc.hub.leaderboard import Leaderboard, ModelRow, Score, read_leaderboard
from hf_wbc.hub.publication import CARD, Publication
from hf_wbc.hub.result_entries import MEASURES
from hf_wbc.plots.html import render_page
from hf_wbc.text import with_spaces

__all__ = ["leaderboard_page", "leaderboard_publication"]

TEMPLATE = "model_cards/leaderboard.html"
CARD_TEMPLATE = "model_cards/leaderboard.md"
PAGE = "index.html"
DATA = "results.json"


def leaderboard_publication(
    what: str, on_event: OnEvent | None, *, public: bool | None = None, tag: str | None = None
) -> Publication:
    """The publication of a benchmark's leaderboard.

    Args:
        what: A dataset on the Hub, `org/name[@revision]`, or a folder with an eval.yaml and
            `.eval_results/*.yaml`.
        on_event: Receives one line for each file that is left out, and for each retry.
        public: Whether anyone may see it; None means yes, as it contains scores only.
        tag: The tag's name; None for the next of v1, v2 and so on.

    Raises:
        ValueError: If there is no such benchmark, or no model has a result.
    """
    on_event, folder = on_event or (lambda line: None), Path(what)
    board = read_leaderboard(folder) if folder.is_dir() else _read_from_hub(what, on_event)
    for name, why in board.left_out:
        on_event(f"left out {name}: {why}")
    if not board.rows:
        raise ValueError(
            f"{what} has no result that can be shown; submit one with `hf-wbc submit ORG/MODEL "
            f"--to {what}`, and merge its pull request"
        )
    return Publication(
        kind="leaderboard",
        files={
            CARD: _card(board).encode(),
            PAGE: leaderboard_page(board).encode(),
            DATA: (json.dumps(_data(board), indent=1, ensure_ascii=False) + "\n").encode(),
        },
        public=True if public is None else public,
        message=f"Leaderboard of {board.title}: {len(board.rows)} models",
        tag=tag,
        subject=board.own,
    )


def _read_from_hub(ref: str, on_event: OnEvent) -> Leaderboard:
    """Read a dataset's result files, and leave out models that do not exist."""
    benchmark = read_benchmark(ref)
    patterns = [EVAL_FILE, f"{RESULTS_FOLDER}/*.yaml"]
    folder = fetch_snapshot(benchmark.repo_id, "dataset", benchmark.revision, patterns)
    board, api = read_leaderboard(folder, benchmark.repo_id), connect()
    missing = {
        row.model
        for row in board.rows
        if not request("looking for a model", lambda row=row: api.repo_exists(row.model),  # type: ignore[misc]
                       row.model, on_event)
    }  # fmt: skip
    lost = [(f"{name.replace('/', '--')}.yaml", f"there is no model {name} at {api.endpoint}")
            for name in sorted(missing)]  # fmt: skip
    rows = tuple(row for row in board.rows if row.model not in missing)
    return replace(board, rows=rows, left_out=(*board.left_out, *lost))


def leaderboard_page(board: Leaderboard) -> str:
    """Render the page of a leaderboard: one HTML file that loads nothing else."""
    from huggingface_hub import constants

    columns = [
        *({"key": name, "title": with_spaces(name), "of": "laboratories"}
          for name in board.laboratories),
        {"key": "", "title": "Mean elsewhere", "of": "elsewhere"},
        *({"key": name, "title": measure.title, "of": "measures"}
          for name, measure in MEASURES.items()),
    ]  # fmt: skip
    rows = [_page_row(board, row, columns) for row in board.rows]
    for place in range(len(columns)):
        values = [row["cells"][place]["value"] for row in rows if row["cells"][place]["competes"]]
        for row in rows:
            cell = row["cells"][place]
            cell["is_best"] = cell["competes"] and len(values) > 1 and cell["value"] == max(values)
    return render_page(
        TEMPLATE,
        {},
        {
            "board": board,
            "endpoint": constants.ENDPOINT if board.repo_id else "",
            "columns": columns,
            "rows": rows,
            "measures": MEASURES,
            "date": max((row.date for row in board.rows), default=""),
            "target": board.repo_id or "ORG/DATASET",
        },
    )


def _page_row(board: Leaderboard, row: ModelRow, columns: list[dict[str, str]]) -> dict[str, Any]:
    """Return the values of a row of the page; `value` is None where there is no score."""
    cells: list[dict[str, Any]] = []
    for column in columns:
        if column["of"] == "elsewhere":
            mean = row.elsewhere(board.counted)
            cells.append({"value": mean, "score": None, "competes": mean is not None})
            continue
        score: Score | None = getattr(row, column["of"]).get(column["key"])
        competes = score is not None and not score.is_home
        cells.append({"value": score and score.value, "score": score, "competes": competes})
    return {
        "model": row.model,
        "date": row.date,
        "cells": cells,
    }


def _data(board: Leaderboard) -> dict[str, Any]:
    """Return the leaderboard for programs."""
    return {
        "dataset": board.repo_id or board.own,
        "counted": list(board.counted),
        "models": [
            {
                "model": row.model,
                "mean_elsewhere": row.elsewhere(board.counted),
                "laboratories": {name: asdict(each) for name, each in row.laboratories.items()},
                "measures": {name: asdict(each) for name, each in row.measures.items()},
            }
            for row in board.rows
        ],
        "left_out": [{"file": name, "reason": why} for name, why in board.left_out],
    }


def _card(board: Leaderboard) -> str:
    """Render the Space's README."""
    from huggingface_hub import SpaceCardData

    from hf_wbc.hub.card import render_card

    data = SpaceCardData(
        title=f"{board.title}: leaderboard"[:100],
        emoji="🩸",
        colorFrom="red",
        colorTo="purple",
        sdk="static",
        app_file=PAGE,
        pinned=False,
        short_description="Models of white blood cells across laboratories",
        tags=["leaderboard"],
        datasets=[board.repo_id] if board.repo_id else None,
    )
    return render_card(CARD_TEMPLATE, data, board=board, target=board.repo_id or "ORG/DATASET")

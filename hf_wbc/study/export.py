"""The comparison as files: Markdown, LaTeX, and each table as CSV and Parquet.

They hold no date and no place: the same runs give the same bytes, wherever their folders lie.
"""

import csv
import io
from pathlib import Path

from hf_wbc.records import replacing
from hf_wbc.study.comparison import Comparison
from hf_wbc.study.flat import Flat, flat_tables
from hf_wbc.study.latex import latex
from hf_wbc.study.markdown import markdown
from hf_wbc.study.sections import sections

PAGE = "comparison.md"
PAPER = "comparison.tex"


def check_out(out: Path) -> None:
    """ValueError when `out` is something else than a comparison of before, or nothing."""
    if (
        out.exists()
        and not (out / PAGE).is_file()
        and not (out.is_dir() and not any(out.iterdir()))
    ):
        raise ValueError(f"{out} is not a folder that `hf-wbc compare` wrote; choose another --out")


def write_comparison(out: Path, comparison: Comparison) -> None:
    """Make the folder `out`, in the place of an earlier comparison, whole or not at all."""
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as work:
        work.mkdir()
        said = list(sections(comparison))
        (work / PAGE).write_text(markdown(said), encoding="utf-8")
        (work / PAPER).write_text(latex(said), encoding="utf-8")
        for name, rows in flat_tables(comparison).items():
            if rows:
                (work / f"{name}.csv").write_text(_csv(rows), encoding="utf-8")
                _write_parquet(work / f"{name}.parquet", rows)


def _csv(rows: Flat) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_parquet(path: Path, rows: Flat) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)

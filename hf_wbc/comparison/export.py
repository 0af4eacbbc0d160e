r"""Export a comparison as Markdown, LaTeX, CSV and Parquet files.

The files contain no date and no path: the same runs give the same bytes, wherever their folders
are. The LaTeX file is for `\input` and needs booktabs and longtable. The CSV and Parquet tables are
flat, with one value per cell.
"""

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_wbc.comparison.compare import Comparison
from hf_wbc.comparison.document import Section, Strong, Table
from hf_wbc.comparison.further_scores import FurtherScores
from hf_wbc.comparison.result_table import EvalSetting, ResultRow
from hf_wbc.comparison.sections import ceiling_rows, sections
from hf_wbc.comparison.statistics import Difference
from hf_wbc.escape import markdown_text, write_csv
from hf_wbc.records import atomic_replace, require_own_folder

_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "→": r"$\rightarrow$", "−": "$-$", "±": r"$\pm$", "†": r"\dag{}", "‡": r"\ddag{}",
    "Δ": r"$\Delta$", "<": "$<$", ">": "$>$",
}  # fmt: skip
_LEVELS = ("section", "subsection", "subsubsection")
_START = "% Written by `hf-wbc compare` from run records; needs \\usepackage{booktabs,longtable}."


def latex(sections: Iterable[Section]) -> str:
    """Render sections as LaTeX, without preamble."""
    blocks = (block for section in sections for block in _blocks(section))
    return "\n\n".join([_START, *blocks]) + "\n"


def _blocks(section: Section) -> list[str]:
    blocks = [f"\\{_LEVELS[section.level - 1]}*{{{_escaped(section.title)}}}"]
    blocks += [_escaped(paragraph) for paragraph in section.paragraphs]
    return blocks if section.table is None else [*blocks, _table(section.table)]


def _table(table: Table) -> str:
    columns = "l" * table.num_words + "r" * (len(table.headings) - table.num_words)
    return "\n".join(
        [
            r"\begingroup\scriptsize\setlength{\tabcolsep}{3pt}",
            f"\\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            _line(table.headings),
            r"\midrule\endhead",
            r"\bottomrule\endfoot",
            *map(_line, table.cells),
            r"\end{longtable}",
            r"\endgroup",
        ]
    )


def _line(cells: Iterable[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    plain = _escaped(text)
    return f"\\textbf{{{plain}}}" if isinstance(text, Strong) else plain


def _escaped(text: str) -> str:
    """Escape text for LaTeX.

    A leading bracket would be parsed as an argument of the preceding line.
    """
    plain = "".join(_SIGNS.get(sign, sign) for sign in " ".join(text.split()))
    return f"{{}}{plain}" if plain.startswith("[") else plain


def markdown(sections: Iterable[Section]) -> str:
    """Render sections as one Markdown page."""
    return "\n\n".join(block for section in sections for block in _markdown_blocks(section)) + "\n"


def _markdown_blocks(section: Section) -> list[str]:
    blocks = [f"{'#' * section.level} {markdown_text(section.title)}"]
    blocks += [markdown_text(paragraph) for paragraph in section.paragraphs]
    return blocks if section.table is None else [*blocks, markdown_table(section.table)]


def markdown_table(table: Table) -> str:
    """Render a GitHub-flavored Markdown table with numbers aligned right."""
    num_numbers = len(table.headings) - table.num_words
    rule = ["---"] * table.num_words + ["---:"] * num_numbers
    lines = [table.headings, rule, *table.cells]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines)


def _markdown_cell(text: str) -> str:
    plain = markdown_text(text)
    return f"**{plain}**" if isinstance(text, Strong) else plain


Flat = list[dict[str, Any]]


def flat_tables(comparison: Comparison) -> dict[str, Flat]:
    """Return rows of plain values by table name; all rows of a table have the same keys."""
    return {
        "rows": [_row(row) for row in comparison.rows],
        "differences": _differences(comparison),
        "ranks": _ranks(comparison),
        "rules_within_runs": [
            {**_setting(each.setting), **_without_setting(each)}
            for each in (*comparison.rule_regrets.within, *comparison.rule_regrets.by_method)
        ],
        "rules_among_runs": [
            {**_setting(each.setting), **_without_setting(each)}
            for each in comparison.rule_regrets.among
        ],
        "further_scores": [_further(each) for each in comparison.further_scores],
        "laboratory_shares": [asdict(each) for each in comparison.laboratory_shares],
        "noise_ceiling": ceiling_rows(comparison.ceiling) if comparison.ceiling else [],
        "problems": [{"folder": each.place, "why": each.what} for each in comparison.problems],
    }


def _further(found: FurtherScores) -> dict[str, Any]:
    return {
        **_setting(found.setting),
        "method": found.name,
        "backbone": found.backbone,
        "rule": found.rule,
        "num_runs": found.num_runs,
        **found.scores,
        **{
            f"{name}_{end}": None if ends is None else ends[place]
            for name, ends in found.intervals.items()
            for place, end in enumerate(("low", "high"))
        },
        "unit": found.unit,
    }


def _setting(setting: EvalSetting) -> dict[str, Any]:
    """Return the fields that identify an evaluation setting; several names are joined by spaces."""
    return {
        "sources": " ".join(setting.sources),
        "targets": " ".join(setting.targets),
        "held_out": " ".join(setting.held_out),
        "domain": setting.domain,
        "role": setting.role,
        "split": setting.split,
        "images": setting.images,
        "num_images": setting.num_images,
        "merge": " ".join(setting.merge),
        "classes": " ".join(setting.classes),
        "num_classes": setting.num_classes,
        "num_target_labels": setting.num_target_labels,
    }


def _row(row: ResultRow) -> dict[str, Any]:
    return {
        **_setting(row.setting),
        "method": row.method,
        "variant": row.variant,
        "network": row.network,
        "trained": row.trained,
        "rule": row.rule,
        "sees": row.sees,
        "exposed": row.exposed,
        "macro_f1": row.macro_f1,
        "macro_f1_spread": row.spread,
        "macro_f1_low": row.low,
        "macro_f1_high": row.high,
        "accuracy": row.accuracy,
        "balanced_accuracy": row.balanced_accuracy,
        "worst_class": row.worst_class,
        "worst_f1": row.worst_f1,
        **{f"{kind}_errors": value for kind, value in row.lineage_errors.items()},
        **{f"{kind}_errors": value for kind, value in row.consequences.items()},
        "missed_blasts": row.missed_blasts,
        "num_seeds": len(row.seeds),
        "seeds": " ".join(map(str, row.seeds)),
        "hours": row.hours,
        "images_per_s": row.images_per_s,
        "peak_memory_bytes": row.peak_memory_bytes,
        "device": row.device,
        "runs": " ".join(run.name for run in row.runs),
    }


def _differences(comparison: Comparison) -> Flat:
    found = []
    for family in comparison.families:
        tests: dict[str, tuple[Difference, ...]] = {
            f"against {comparison.baseline}": family.against,
            "all pairs": family.pairs,
        }
        for corrected_for, differences in tests.items():
            found += [
                {
                    **_setting(family.setting),
                    "network": family.backbone,
                    "sees": family.sees,
                    "corrected_for": corrected_for,
                    "one": family.names[each.one],
                    "other": family.names[each.other],
                    "difference": each.value,
                    "low": each.low,
                    "high": each.high,
                    "p": each.p,
                    "p_holm": each.p_holm,
                    "is_significant": each.is_significant,
                    "unit": family.unit,
                }
                for each in differences
            ]
    return found


def _ranks(comparison: Comparison) -> Flat:
    return [
        {
            "network": test.backbone,
            "sees": test.sees,
            "num_target_labels": test.num_target_labels,
            "method": name,
            "mean_rank": mean_rank,
            "letters": letters,
            "num_blocks": test.ranking.num_blocks,
            "critical_difference": test.ranking.critical_difference,
            "friedman": test.ranking.statistic,
            "p": test.ranking.p,
        }
        for test in comparison.rank_tests
        if test.ranking is not None
        for name, mean_rank, letters in zip(
            test.ranking.names, test.ranking.mean_ranks, test.ranking.letters, strict=True
        )
    ]


def _without_setting(each: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(each).items() if name != "setting"}


PAGE = "comparison.md"
PAPER = "comparison.tex"


def check_output_folder(out: Path) -> None:
    """Check that `out` does not exist, is empty, or contains an earlier comparison.

    Raises:
        ValueError: If it contains anything else.
    """
    require_own_folder(out, PAGE, "hf-wbc compare")


def write_comparison(out: Path, comparison: Comparison) -> None:
    """Write the comparison to the folder `out`, atomically replacing an earlier one."""
    check_output_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(out) as work:
        work.mkdir()
        parts = list(sections(comparison))
        (work / PAGE).write_text(markdown(parts), encoding="utf-8")
        (work / PAPER).write_text(latex(parts), encoding="utf-8")
        for name, rows in flat_tables(comparison).items():
            if rows:
                (work / f"{name}.csv").write_text(_csv(rows), encoding="utf-8")
                _write_parquet(work / f"{name}.parquet", rows)


def _csv(rows: Flat) -> str:
    text = io.StringIO()
    write_csv(text, list(rows[0]), (list(row.values()) for row in rows))
    return text.getvalue()


def _write_parquet(path: Path, rows: Flat) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)

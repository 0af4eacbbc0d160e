"""The comparison as flat tables, one value a cell, for CSV and Parquet."""

from typing import Any

from hf_wbc.study.comparison import Comparison
from hf_wbc.study.paired import Difference
from hf_wbc.study.reference_words import ceiling_rows
from hf_wbc.study.table import Row, Sheet

Flat = list[dict[str, Any]]


def flat_tables(comparison: Comparison) -> dict[str, Flat]:
    """Rows of plain values by the table's name; every row of a table has the same keys."""
    return {
        "rows": [_row(row) for row in comparison.rows],
        "differences": _differences(comparison),
        "ranks": _ranks(comparison),
        "rules_within_runs": [
            {**_sheet(each.sheet), **_without_sheet(each)}
            for each in (*comparison.judged.within, *comparison.judged.by_method)
        ],
        "rules_among_runs": [
            {**_sheet(each.sheet), **_without_sheet(each)} for each in comparison.judged.among
        ],
        "noise_ceiling": ceiling_rows(comparison.ceiling) if comparison.ceiling else [],
        "problems": [{"folder": each.place, "why": each.what} for each in comparison.problems],
    }


def _sheet(sheet: Sheet) -> dict[str, Any]:
    """What tells a set of scored images apart; several names are joined by spaces."""
    return {
        "sources": " ".join(sheet.sources),
        "targets": " ".join(sheet.targets),
        "held_out": " ".join(sheet.held_out),
        "domain": sheet.domain,
        "role": sheet.role,
        "split": sheet.split,
        "images": sheet.images,
        "num_images": sheet.num_images,
        "merge": " ".join(sheet.merge),
        "classes": " ".join(sheet.classes),
        "num_classes": sheet.num_classes,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        **_sheet(row.sheet),
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
                    **_sheet(family.sheet),
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
                    "is_real": each.is_real,
                    "drawn": family.unit,
                }
                for each in differences
            ]
    return found


def _ranks(comparison: Comparison) -> Flat:
    return [
        {
            "network": test.backbone,
            "sees": test.sees,
            "method": name,
            "mean_rank": mean_rank,
            "not_told_apart": letters,
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


def _without_sheet(each: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(each).items() if name != "sheet"}

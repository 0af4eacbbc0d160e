"""The table of docs/benchmark.md: models in laboratories, under corruptions, and by their features.

    python -m hf_wbc.cli.benchmark_table measure hf_wbc/plain runs/RUN/model --data build --patients
    python -m hf_wbc.cli.benchmark_table render

`measure` writes the result file docs/benchmark/.eval_results/ORG--NAME.yaml, in the format that
`hf-wbc submit` submits; `render` writes the table from these files into README.md and
docs/benchmark.md. The same files are a leaderboard:

    hf-wbc publish leaderboard docs/benchmark --to ./build/leaderboard
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from hf_wbc.escape import print_plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "benchmark"
PAGES = ("README.md", "docs/benchmark.md")
HOME = "acevedo_20"
ELSEWHERE = ("tecom_jiangxi", "bccd_crops", "cellavision_blog")
NAMES = {
    "hf_wbc/robust-3000": "robust, 3000 steps, 128 px (shipped)",
    "hf_wbc/robust-1000": "robust, 1000 steps, 96 px",
    "hf_wbc/plain-1000": "plain fine-tuning, 1000 steps, 96 px",
    "hf_wbc/frozen-probe": "frozen ImageNet features, linear probe",
}
"""Display names of the models."""
NUM_PATIENTS, CELLS_OF_PATIENT = 60, 40
IMMATURE = ("promyelocyte", "myelocyte", "metamyelocyte", "neutrophil_banded")
SHARES = {"left shift": 0.30, "no left shift": 0.12}
"""Mean share of immature granulocytes and bands in the drawn patients."""
MARKS = ("<!-- benchmark -->", "<!-- /benchmark -->")
"""Lines of a page before and after the table."""


def measure(
    name: Annotated[str, tyro.conf.Positional],
    model: Annotated[str, tyro.conf.Positional],
    data: Path = Path("build"),
    out: Path = Path("build/benchmark"),
    stress_cells: int = 150,
    records: tuple[Path, ...] = (),
    patients: bool = False,
) -> None:
    """Measure a model and write its result file.

    Args:
        name: ORG/NAME in the table.
        model: A model folder.
        data: Folder of the prepared datasets.
        out: Folder of evaluations and stress tests.
        stress_cells: Test cells to corrupt.
        records: Folders of `hf-wbc evaluate` and `stress` on this model, which are not repeated.
        patients: Also predict the label of drawn patients; see `patient_record`.
    """
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.data.dataset import load_split, load_splits
    from hf_wbc.hub.benchmark import Benchmark, results_path, results_yaml
    from hf_wbc.hub.result_entries import record_entries
    from hf_wbc.inference.attribute_reasons import attribute_record
    from hf_wbc.inference.benchmark_scores import (
        BenchmarkOptions,
        measure_model,
        measure_representation,
    )
    from hf_wbc.records import RunFolder

    options = BenchmarkOptions(
        stress_cells=stress_cells, allow_unscaled=True, all_splits_elsewhere=True
    )
    benchmarks = {
        domain: Benchmark(f"hf_wbc/wbc-{domain.replace('_', '-')}", None, domain)
        for domain in (HOME, *ELSEWHERE)
    }
    refs = [str(data / each) for each in benchmarks]
    with stage_progress() as report:
        if records:
            splits = [(refs[0], load_split(refs[0], "test"))]
            splits += [(ref, split) for ref in refs[1:] for split in load_splits(ref)]
            found = [RunFolder(path).read_record() for path in records]
            found.append(measure_representation(model, splits, options, report))
        else:
            found = measure_model(model, refs, out, options, report)
    if (attributes := attribute_record(model)) is not None:
        found.append(attributes)
    if patients:
        found.append(patient_record(model, refs[0]))
    revision = found[0]["model"]["revision"]
    entries = record_entries(found, benchmarks, revision, f"{datetime.now(UTC):%Y-%m-%d}")
    path = FOLDER / results_path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(results_yaml(entries))
    print_plain(path)


def patient_record(model: str, ref: str, seed: int = 0) -> dict[str, Any]:
    """Predict the label of drawn patients, as `hf-wbc patients` does for real ones.

    None of these datasets names patients, so each patient is a bag of test cells of one laboratory;
    no cell is in two bags. The share of bands and immature granulocytes has a mean of .30 with a
    left shift and .12 without, and varies like a beta distribution of 20 counts.
    """
    import numpy as np

    from hf_wbc.data.dataset import load_split
    from hf_wbc.engine.domain_preprocessing import preprocessing_for
    from hf_wbc.inference.patients import HEADS, cross_validate, join_bags
    from hf_wbc.inference.runtime import split_features
    from hf_wbc.inference.select_runtime import choose_runtime
    from hf_wbc.models import load_trained

    pretrained = load_trained(model)
    pretrained.classifier.eval()
    domain = load_split(ref, "test")
    choice = choose_runtime(pretrained.classifier, pretrained.preprocessing, "auto")
    preprocessing, _ = preprocessing_for(pretrained, ref)
    rows, labels = draw_patients(domain.labels, seed)
    used = np.unique(rows)
    features = split_features(
        pretrained, choice.runtime, preprocessing, domain, used, lambda done, total: None
    )
    flat = np.searchsorted(used, rows.ravel())
    groups = [f"patient {number:02}" for number in range(len(rows)) for _ in rows[number]]
    bags = join_bags(features[flat], groups, labels, ref)
    return {
        "kind": "patients",
        "model": {"name": model, "revision": pretrained.revision},
        "data": domain.name,
        "num_patients": len(labels),
        "heads": {head: cross_validate(bags, head, seed) for head in HEADS},
    }


def draw_patients(
    labels: "NDArray[np.int64]", seed: int
) -> "tuple[NDArray[np.int64], Mapping[str, str]]":
    """Return the rows of each patient's cells (P, CELLS_OF_PATIENT), and the patients' labels."""
    import numpy as np

    from hf_wbc.taxonomy import class_id

    generator = np.random.default_rng(seed)
    is_immature = np.isin(labels, [class_id(name) for name in IMMATURE])
    immature = generator.permutation(np.flatnonzero(is_immature))
    mature = generator.permutation(np.flatnonzero((labels >= 0) & ~is_immature))
    rows: list[NDArray[np.int64]] = []
    names: dict[str, str] = {}
    for number in range(NUM_PATIENTS):
        name = list(SHARES)[number % len(SHARES)]
        share = generator.beta(20 * SHARES[name], 20 * (1 - SHARES[name]))
        num = int(generator.binomial(CELLS_OF_PATIENT, share))
        chosen, immature = np.split(immature, [num])
        others, mature = np.split(mature, [CELLS_OF_PATIENT - num])
        rows.append(np.concatenate([chosen, others]))
        names[f"patient {number:02}"] = name
    return np.stack(rows), names


def render() -> None:
    """Write the table into README.md and docs/benchmark.md."""
    for path in (ROOT / name for name in PAGES):
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(text: str) -> str:
    """Replace the table between its marks in a page."""
    from hf_wbc.comparison.laboratory_table import replace_tables
    from hf_wbc.hub.leaderboard import markdown_table, read_leaderboard

    table = markdown_table(read_leaderboard(FOLDER), NAMES)
    return replace_tables(text, table.rstrip("\n"), *MARKS)


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {"measure": measure, "render": render}
    tyro.extras.subcommand_cli_from_dict(commands)

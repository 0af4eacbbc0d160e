"""The tables in docs/real_cells are reproduced from their records, byte for byte."""

import tarfile
from pathlib import Path

from hf_wbc.cli.main import main

STUDY = Path(__file__).resolve().parents[2] / "docs" / "real_cells"


def test_table_is_reproduced_from_records(tmp_path: Path) -> None:
    with tarfile.open(STUDY / "records.tar.xz") as archive:
        archive.extractall(tmp_path / "runs", filter="data")
    out = tmp_path / "comparison"
    assert main(["compare", str(tmp_path / "runs"), "--no-report", "--out", str(out)]) == 0
    assert (out / "rows.csv").read_bytes() == (STUDY / "rows.csv").read_bytes()

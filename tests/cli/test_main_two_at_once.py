"""Two commands at once with the same output: nothing is lost or mixed, and each says its end."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hf_wbc.models import load_classifier, load_trained, save_classifier

MAIN = "import sys; from hf_wbc.cli.main import main; sys.exit(main(sys.argv[1:]))"


def both(*commands: list[str]) -> list[tuple[int, str]]:
    """Run commands at the same time; returns their exit statuses and messages."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", MAIN, *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ,
        )
        for words in commands
    ]  # fmt: skip
    return [(each.wait(), each.communicate()[0]) for each in running]


@pytest.fixture(scope="module")
def models(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return two untrained models that differ."""
    import torch

    folder = tmp_path_factory.mktemp("models")
    loaded = load_classifier(tiny_model)
    for name in "ab":
        with torch.no_grad():
            loaded.classifier.head.weight.add_(0.1)
        save_classifier(loaded.classifier, loaded.processor, folder / name)
    return str(folder / "a"), str(folder / "b")


@pytest.mark.slow
@pytest.mark.ci
def test_each_output_is_that_of_one_command(
    models: tuple[str, str], make_domain: Callable[..., Path], tmp_path: Path
) -> None:
    """Each pair differs in an option or the model, so that a mixture would show."""
    data = str(make_domain(tmp_path / "lab", name="lab", num_per_class=4))
    a, b = models
    out = str(tmp_path / "both")
    ends = both(
        ["combine", a, b, "--sources", data, "--out", out],
        ["combine", a, b, "--sources", data, "--out", out, "--how", "soup"],
    )
    done = [status for status, _ in ends]
    assert sorted(done) == [0, 1], ends
    said = ends[done.index(1)][1]
    assert "another command is writing" in said or f"{out} exists" in said
    kept = json.loads((tmp_path / "both" / "combination.json").read_text())
    assert kept["how"] == ("ensemble", "soup")[done.index(0)]
    assert load_trained(out)
    assert not list(tmp_path.glob(".both*"))

    stress = ["--out", str(tmp_path / "stress"), "--corruptions", "noise", "--runtime", "torch"]
    ends = both(["stress", a, data, *stress], ["stress", a, data, *stress])
    assert 0 in [status for status, _ in ends], ends
    assert all(not status or "another process is writing" in said for status, said in ends), ends
    (folder,) = (tmp_path / "stress").iterdir()
    assert json.loads((folder / "record.json").read_text())["kind"] == "stress"

    ends = both(*(["reference", a, data, "--per-class", n] for n in "13"))
    assert [status for status, _ in ends] == [0, 0], ends
    found = pq.read_table(Path(a) / "reference.parquet")
    assert found.filter(pc.equal(found["split"], "train")).num_rows in (11, 33)

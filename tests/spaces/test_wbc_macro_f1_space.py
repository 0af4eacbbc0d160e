"""The metric's Space works standalone, without hf_wbc."""

import json
import os
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import yaml

from hf_wbc.evaluation.bootstrap import bootstrap_intervals
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.probability_metrics import (
    probability_intervals,
    probability_scores,
    scored_probabilities,
)
from hf_wbc.evaluation.wbc_macro_f1 import space_files, with_local_imports
from hf_wbc.shipped import shipped

SPACE = shipped("spaces/wbc_macro_f1")
TRUE, PREDICTED = np.random.default_rng(0).integers(0, 11, (2, 60)).tolist()
MERGE = ["neutrophil_banded=neutrophil_segmented"]

PROBABILITIES = (np.eye(11)[PREDICTED] * 0.5 + 0.5 / 11).tolist()
OPTIONS = (
    {},
    {"merge": MERGE, "classes": ["monocyte", "basophil"]},
    {"intervals": True},
    {"intervals": True, "probabilities": PROBABILITIES},
)
EXAMPLES = re.findall(r"```python\n(.*?)```", (SPACE / "README.md").read_text(), re.S)

ALONE = """
import json, socket, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {"hf_wbc", "torch", "transformers", "sklearn"}:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

def refuse(*arguments):
    raise OSError("no network here")

sys.meta_path[:] = map(Without, sys.meta_path)
socket.socket.connect = refuse

import evaluate

space, inputs, *examples = json.load(sys.stdin)
metric = evaluate.load(space)
print(json.dumps([metric.compute(**one) for one in inputs]))
for example in examples:
    exec(example)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return the output of a process without hf_wbc, network, or caches: scores, then examples."""
    cache = tmp_path_factory.mktemp("alone")
    inputs = [{"predictions": PREDICTED, "references": TRUE, **more} for more in OPTIONS]
    examples = (text.replace('"spaces/wbc_macro_f1"', repr(str(SPACE))) for text in EXAMPLES)
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        input=json.dumps([str(SPACE), inputs, *examples]),
        capture_output=True,
        text=True,
        cwd=cache,
        env={**os.environ, "HF_HOME": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_space_files_match_the_package():
    for name, text in space_files().items():
        assert (SPACE / name).read_text() == text, "see CONTRIBUTING.md"


def test_space_files_do_not_import_the_package():
    for name, text in space_files().items():
        assert not re.search(r"^\s*(from|import) hf_wbc", text, flags=re.M), name


def test_imports_become_local():
    assert (
        with_local_imports("from hf_wbc.taxonomy import NAMES\n") == "from .taxonomy import NAMES\n"
    )
    assert (
        with_local_imports("from hf_wbc.evaluation.metrics import a, b")
        == "from .metrics import a, b"
    )
    assert with_local_imports("import numpy as np\n") == "import numpy as np\n"


@pytest.mark.slow
@pytest.mark.ci
def test_metric_loads_without_package_or_network_and_matches(alone):
    plain, limited, certain, graded = json.loads(alone[0])
    assert plain == score(TRUE, PREDICTED)
    assert limited == score(TRUE, PREDICTED, **OPTIONS[1])
    assert certain == plain | {"intervals": bootstrap_intervals(TRUE, PREDICTED)}
    found = scored_probabilities(PROBABILITIES, TRUE)
    more = certain["intervals"] | probability_intervals(found)
    assert graded == plain | probability_scores(found) | {"intervals": more}


def test_readme_examples_run(alone):
    assert len(EXAMPLES) == 2
    assert alone[1] == re.search(r"print\(.*\)  # (.*)", EXAMPLES[0])[1]


def test_space_metadata_is_complete():
    text = (SPACE / "README.md").read_text()
    facts = yaml.safe_load(text.split("---")[1])
    assert facts["sdk"] == "gradio"
    assert re.fullmatch(r"\d+\.\d+\.\d+", facts["sdk_version"])
    assert (SPACE / facts["app_file"]).is_file()
    assert len(facts["short_description"]) <= 60


def test_page_scores_pasted_predictions(tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio", reason="the app extra is not installed")
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)
    page = runpy.run_path(str(SPACE / "app.py"))
    headline, per_class, confusion = page["compute"](page["EXAMPLE"], "", [])
    assert "over 4 classes" in headline
    assert per_class[0][0] == "myelocyte"
    assert confusion["headers"][1:] == page["NAMES"]
    merged, _, _ = page["compute"](page["EXAMPLE"], MERGE[0], ["neutrophil_segmented"])
    assert "macro-F1 1.000 over 1 classes" in merged
    for text in ("a,b\n0,0", "reference,prediction\n0,monocite", "reference,prediction\n0,0.5", ""):
        with pytest.raises(gradio.Error):
            page["compute"](text, "", [])
    assert isinstance(page["build"](), gradio.Blocks)

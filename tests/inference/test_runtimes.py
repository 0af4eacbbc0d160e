"""Every runtime matches torch in fp32, or is rejected."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hf_wbc.engine.forward import Runtime
from hf_wbc.inference import select_runtime
from hf_wbc.inference.runtime import backbone_module
from hf_wbc.inference.runtimes import eager_runtime, openvino_runtime
from hf_wbc.inference.select_runtime import (
    TOLERANCE,
    choose_other_than_torch,
    choose_runtime,
    head_probabilities,
    probe_images,
)
from hf_wbc.models import PretrainedModel, load_classifier
from hf_wbc.taxonomy import NUM_CLASSES

SLOW = (pytest.mark.slow, pytest.mark.ci)
FAMILIES: dict[str, dict[str, Any]] = {
    "vit": {
        "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "patch_size": 14, "image_size": 28,
    },
    "mobilenet_v2": {"model_type": "mobilenet_v2", "depth_multiplier": 0.35, "image_size": 32},
    "convnextv2": {"model_type": "convnextv2", "depths": [1, 1, 1, 1],
                   "hidden_sizes": [8, 8, 16, 16], "image_size": 32},
}  # fmt: skip


def load(family: str, folder: Path) -> PretrainedModel:
    """Build a new model of the family whose predictions differ between images."""
    from transformers import AutoConfig, ViTImageProcessor

    config = AutoConfig.for_model(**FAMILIES[family])
    config.save_pretrained(folder)
    side = FAMILIES[family]["image_size"]
    ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    torch.manual_seed(0)
    loaded = load_classifier(str(folder), fresh=True)
    inputs, model = probe_images(loaded.preprocessing), backbone_module(loaded.classifier)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # its statistics become those of the next batch
    with torch.no_grad():
        model.train()(inputs)
        features = model.eval()(inputs)
        head = loaded.classifier.head
        head.weight.normal_(generator=torch.Generator().manual_seed(0))
        logits = features @ head.weight.T
        head.weight.div_(logits.std(0).mean())
        head.bias.copy_(-(features @ head.weight.T).mean(0))
    return loaded


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return load("vit", tmp_path_factory.mktemp("vit"))


def installed(name: str) -> None:
    """Skip if the extra `engines` is not installed."""
    for module in select_runtime.REQUIRED_PACKAGES.get(name, ()):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'hf_wbc[engines]'")


@pytest.mark.parametrize("family", FAMILIES)
def test_backbone_and_head_reproduce_the_model(family: str, tmp_path: Path) -> None:
    classifier = load(family, tmp_path).classifier
    inputs = torch.randn(3, 3, FAMILIES[family]["image_size"], FAMILIES[family]["image_size"])
    with torch.no_grad():
        features = backbone_module(classifier)(inputs)
        torch.testing.assert_close(features, classifier(inputs).features)
        torch.testing.assert_close(classifier.head(features), classifier(inputs).logits)


def test_backbone_shares_classifier_weights(vit: PretrainedModel) -> None:
    ours = {id(p) for p in vit.classifier.model.parameters()}
    assert all(id(p) in ours for p in backbone_module(vit.classifier).parameters())


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("openvino", "vit"),
        pytest.param("openvino", "mobilenet_v2", marks=SLOW),
        pytest.param("openvino", "convnextv2", marks=SLOW),
        pytest.param("onnx", "vit", marks=SLOW),  # an export takes long; one family stands for all
    ],
)
def test_runtime_matches_torch_for_any_batch_size(name: str, family: str, tmp_path: Path) -> None:
    installed(name)
    loaded = load(family, tmp_path)
    chosen = choose_runtime(loaded.classifier, loaded.preprocessing, name)
    assert chosen.runtime.name == name and chosen.deviation <= TOLERANCE
    size = FAMILIES[family]["image_size"]
    for num in (1, 3, 5):
        strength = torch.linspace(0.5, 2, num).view(num, 1, 1, 1)
        inputs = strength * torch.randn(num, 3, size, size)
        expected = eager_runtime(loaded.classifier, size).features(inputs)
        found = chosen.runtime.features(inputs)
        np.testing.assert_allclose(
            head_probabilities(loaded.classifier, found),
            head_probabilities(loaded.classifier, expected),
            atol=TOLERANCE,
        )
    assert np.ptp(head_probabilities(loaded.classifier, expected).numpy(), axis=0).max() > 0.05


def test_parallel_streams_preserve_results_and_order(
    vit: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("openvino")
    inputs = torch.randn(37, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = eager_runtime(vit.classifier, 28).features(inputs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    runtime = openvino_runtime(vit.classifier, 28)
    assert runtime.batch_size > 8
    for num in (1, 7, 8, 16, 37):
        found = runtime.features(inputs[:num])
        torch.testing.assert_close(found, expected[:num], rtol=1e-4, atol=1e-5)


def test_backbone_without_trained_head_is_compared_by_features(
    vit: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = torch.zeros_like(vit.classifier.head.weight)
    monkeypatch.setattr(vit.classifier.head.weight, "data", head)  # every probability is the same
    monkeypatch.setattr(select_runtime, "MAKERS", {**select_runtime.MAKERS, "openvino": off(0.5)})
    choose_runtime(vit.classifier, vit.preprocessing, "openvino")
    with pytest.raises(ValueError, match="a feature, in standard deviations, differs by"):
        choose_runtime(vit.classifier, vit.preprocessing, "openvino", compare="features")


def test_torch_is_not_another_runtime(
    vit: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_other_than_torch(vit, "torch") is None
    monkeypatch.setattr(select_runtime, "MAKERS", {**select_runtime.MAKERS, "openvino": off(1e-7)})
    chosen = choose_other_than_torch(vit, "openvino")
    assert chosen is not None and chosen.runtime.name == "openvino"
    monkeypatch.setattr(select_runtime, "FASTEST_FIRST", ())
    assert choose_other_than_torch(vit, "auto") is None


def test_returned_features_are_not_overwritten(vit: PretrainedModel) -> None:
    installed("openvino")
    runtime = choose_runtime(vit.classifier, vit.preprocessing, "openvino").runtime
    first, second = torch.randn(2, 1, 3, 28, 28)
    kept = runtime.features(first)
    before = kept.clone()
    runtime.features(second)
    torch.testing.assert_close(kept, before, rtol=0, atol=0)


def off(by: float) -> Any:
    """Build a factory of a runtime with wrong features."""

    def make(classifier: Any, size: int, precision: Any, key: str | None) -> Runtime:
        right = eager_runtime(classifier, size)

        def features(inputs: Tensor) -> Tensor:
            found = right.features(inputs)
            return found + by * torch.randn(found.shape, generator=torch.Generator().manual_seed(0))

        return Runtime("openvino", precision, features, "0", 8)

    return make


def test_deviating_runtime_is_refused(
    vit: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        select_runtime, "REQUIRED_PACKAGES", {"openvino": ("torch",), "onnx": ("no_such_module",)}
    )
    monkeypatch.setattr(select_runtime, "MAKERS", {**select_runtime.MAKERS, "openvino": off(0.5)})
    with pytest.raises(ValueError, match="runtime openvino is rejected: a probability differs by"):
        choose_runtime(vit.classifier, vit.preprocessing, "openvino")
    chosen = choose_runtime(vit.classifier, vit.preprocessing, "auto")
    assert chosen.runtime.name == "torch"
    assert "openvino is rejected" in chosen.to_dict()["rejected"][0]
    monkeypatch.setattr(select_runtime, "MAKERS", {**select_runtime.MAKERS, "openvino": off(1e-7)})
    assert choose_runtime(vit.classifier, vit.preprocessing, "auto").runtime.name == "openvino"


def test_nan_counts_as_deviation(vit: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        select_runtime, "MAKERS", {**select_runtime.MAKERS, "openvino": off(float("nan"))}
    )
    with pytest.raises(ValueError, match="is rejected"):
        choose_runtime(vit.classifier, vit.preprocessing, "openvino")


@pytest.mark.parametrize(
    ("name", "precision", "said"),
    [
        ("opnvino", "fp32", "unknown runtime 'opnvino'; did you mean 'openvino'?"),
        ("torch", "fp8", "unknown precision 'fp8'; choose from fp32, bf16"),
    ],
)
def test_unknown_runtime_or_precision_is_refused(
    vit: PretrainedModel, name: str, precision: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        choose_runtime(vit.classifier, vit.preprocessing, name, precision)


def test_missing_runtime_names_its_package(
    vit: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r"not installed .*pip install 'hf_wbc\[engines\]'"):
        choose_runtime(vit.classifier, vit.preprocessing, "openvino")


def test_bf16_is_used_only_on_request_and_reports_deviation(vit: PretrainedModel) -> None:
    assert choose_runtime(vit.classifier, vit.preprocessing).runtime.precision == "fp32"
    chosen = choose_runtime(vit.classifier, vit.preprocessing, "torch", "bf16")
    facts = chosen.to_dict()
    assert facts["precision"] == "bf16" and facts["tolerance"] is None
    assert 1e-6 < chosen.deviation < 0.2


def test_unsupported_bf16_is_refused(vit: PretrainedModel) -> None:
    installed("openvino")
    import openvino

    has_unit = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if has_unit:
        chosen = choose_runtime(vit.classifier, vit.preprocessing, "auto", "bf16")
        assert chosen.runtime.name == "openvino" and chosen.deviation > 1e-6
        return
    with pytest.raises(ValueError, match=r"OpenVINO computes in f32 instead of bf16"):
        choose_runtime(vit.classifier, vit.preprocessing, "openvino", "bf16")
    with pytest.raises(ValueError, match=r"no runtime is faster in bf16 here .*--runtime torch"):
        choose_runtime(vit.classifier, vit.preprocessing, "auto", "bf16")


def test_conversion_is_cached(
    vit: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("openvino")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    first = choose_runtime(vit.classifier, vit.preprocessing, "openvino", key="weights")
    (kept,) = (tmp_path / "hf_wbc" / "engines").iterdir()
    written = (kept / "model.bin").stat().st_mtime_ns
    second = choose_runtime(vit.classifier, vit.preprocessing, "openvino", key="weights")
    assert (kept / "model.bin").stat().st_mtime_ns == written
    inputs = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(first.runtime.features(inputs), second.runtime.features(inputs))
    choose_runtime(vit.classifier, vit.preprocessing, "openvino", key="others")
    assert len(list((tmp_path / "hf_wbc" / "engines").iterdir())) == 2


@pytest.mark.slow  # takes a fresh process
@pytest.mark.ci
def test_openvino_makes_no_network_calls(vit: PretrainedModel, tmp_path: Path) -> None:
    installed("openvino")
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('it called')\n"
        "socket.getaddrinfo = socket.create_connection = refuse\n"
        "socket.socket.connect = refuse\n"
        "from hf_wbc.inference.runtimes import openvino_runtime, OPENVINO_TELEMETRY\n"
        "from hf_wbc.models import load_classifier\n"
        f"openvino_runtime(load_classifier({str(tmp_path)!r}, fresh=True).classifier, 28)\n"
        "assert OPENVINO_TELEMETRY not in sys.modules\n"
    )
    load("vit", tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_head_probabilities_cover_the_eleven_classes(vit: PretrainedModel) -> None:
    found = head_probabilities(vit.classifier, torch.randn(4, vit.classifier.num_features))
    assert found.shape == (4, NUM_CLASSES)
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=torch.float64))

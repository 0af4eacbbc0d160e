"""A compiled training step changes no key, resumes to the same bits, and is left out if it must."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.engine.compilation import compile_network, missing_compiler, uncompiled
from hf_wbc.engine.run import run
from hf_wbc.models import load_classifier


@pytest.fixture
def config(laboratories: tuple[str, str], tiny_model: str) -> TrainConfig:
    return TrainConfig(
        sources=(laboratories[0],), model=tiny_model, steps=4, batch_size=4, eval_steps=2,
        learning_rate=1e-2, compile=True,
    )  # fmt: skip


def test_without_a_compiler_the_plain_run_is_made_and_said_so(
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no-such-compiler" in missing_compiler()
    made = run(config, tmp_path, tmp_path / "cache")
    assert "no-such-compiler" in capsys.readouterr().err
    assert made.read_record()["config"]["optim"]["compile"] is False
    assert run(config.replace(compile=False), tmp_path, tmp_path / "cache") == made


def test_features_cannot_be_compiled(config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="compile"):
        config.replace(inputs="features")


def test_evaluations_run_as_usual(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = load_classifier(tiny_model).classifier.eval()
    keys = list(classifier.state_dict())
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        compiled.append(graph)
        return graph

    monkeypatch.setattr(
        classifier, "_compiled_call_impl", torch.compile(classifier._call_impl, backend=backend)
    )
    with uncompiled(), torch.no_grad():
        classifier(torch.zeros(2, 3, 28, 28))
    assert not compiled and list(classifier.state_dict()) == keys


@pytest.mark.slow  # compiles
@pytest.mark.ci
@pytest.mark.skipif(bool(missing_compiler()), reason="no C++ compiler")
def test_a_compiled_run_resumes_to_the_same_bits_under_the_same_keys(
    config: TrainConfig, tmp_path: Path, interrupt: Callable[..., None]
) -> None:
    whole = run(config, tmp_path / "whole", tmp_path / "cache")
    assert whole.read_record()["config"]["optim"]["compile"] is True
    interrupt(3, config, tmp_path / "halves", tmp_path / "cache")
    halves = run(config, tmp_path / "halves", tmp_path / "cache")
    plain = run(config.replace(compile=False), tmp_path / "whole", tmp_path / "cache")
    assert plain.path != whole.path
    first, second, third = (
        load_file(each.model / "model.safetensors") for each in (whole, halves, plain)
    )
    assert first.keys() == second.keys() == third.keys()
    for name, weights in first.items():
        assert torch.equal(weights, second[name]), name
        torch.testing.assert_close(weights, third[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow  # compiles
@pytest.mark.ci
@pytest.mark.skipif(bool(missing_compiler()), reason="no C++ compiler")
def test_a_network_is_compiled_once_for_all_steps(tiny_model: str) -> None:
    classifier = load_classifier(tiny_model).classifier.train()
    compile_network(classifier)
    torch._dynamo.utils.counters.clear()
    for seed in range(3):
        torch.manual_seed(seed)
        output = classifier(torch.randn(4, 3, 28, 28))
        output.logits.sum().backward()
        assert output.features.shape == (4, 16)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1

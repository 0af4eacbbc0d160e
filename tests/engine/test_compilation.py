"""A compiled training step changes no key, resumes to the same bits, and is left out if it must."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.engine.compilation import missing_compiler, uncompiled
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


def assert_resumes_to_the_same_bits(
    config: TrainConfig, folder: Path, interrupt: Callable[..., None]
) -> None:
    """Compare an undisturbed, a resumed and a plain run, and the keys of their models."""
    whole = run(config, folder / "whole", folder / "cache")
    assert whole.read_record()["config"]["optim"]["compile"] is True
    interrupt(3, config, folder / "halves", folder / "cache")
    halves = run(config, folder / "halves", folder / "cache")
    plain = run(config.replace(compile=False), folder / "whole", folder / "cache")
    assert plain.path != whole.path
    first, second, third = (
        load_file(each.model / "model.safetensors") for each in (whole, halves, plain)
    )
    assert first.keys() == second.keys() == third.keys()
    for name, weights in first.items():
        assert torch.equal(weights, second[name]), name
        torch.testing.assert_close(weights, third[name], rtol=1e-2, atol=1e-3)


@pytest.mark.slow  # trains four times
@pytest.mark.ci
def test_traced_run_resumes_to_the_same_bits(
    config: TrainConfig,
    tmp_path: Path,
    interrupt: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trace forward and backward pass, without the minutes of generating code."""
    monkeypatch.setattr("hf_wbc.engine.compilation.missing_compiler", lambda: "")
    monkeypatch.setattr(
        "hf_wbc.engine.run.compile_network",
        lambda classifier: classifier.compile(backend="aot_eager", dynamic=False),
    )
    torch._dynamo.utils.counters.clear()
    assert_resumes_to_the_same_bits(config, tmp_path, interrupt)
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow  # generates code and compiles it
@pytest.mark.skipif(bool(missing_compiler()), reason="no C++ compiler")
def test_compiled_run_resumes_to_the_same_bits(
    config: TrainConfig, tmp_path: Path, interrupt: Callable[..., None]
) -> None:
    assert_resumes_to_the_same_bits(config, tmp_path, interrupt)

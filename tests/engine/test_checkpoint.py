"""The newest complete checkpoint is loaded, and optimizer state round-trips."""

from pathlib import Path

import pytest
import torch

from hf_wbc.engine.checkpoint import (
    Progress,
    load_best,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)

PLAIN = torch.contiguous_format
STATE = {"method": {"w": torch.ones(2)}, "optimizer": {}}


def stepped(weight: torch.nn.Parameter, num: int) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    for _ in range(num):
        weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()
    return optimizer


def test_restored_optimizer_takes_same_next_step() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    saved = stepped(weight, 2)
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(saved).items()}
    other = torch.nn.Parameter(weight.detach().clone())
    restored = torch.optim.AdamW([other], lr=0.1)
    restore_optimizer(restored, tensors)
    for parameter, optimizer in ((weight, saved), (other, restored)):
        parameter.grad = torch.ones(3)
        optimizer.step()
    assert torch.equal(weight, other)


def test_restored_optimizer_keeps_memory_format_of_weights() -> None:
    """Checkpoints hold contiguous tensors; fused steps pair the elements as they lie in memory."""
    start = torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last)
    weights = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    optimizers = [torch.optim.AdamW([weight], lr=0.1, fused=True) for weight in weights]
    weights[0].grad = start.sin()
    optimizers[0].step()
    weights[1].data.copy_(weights[0].data)
    tensors = optimizer_tensors(optimizers[0])
    saved = {name: tensor.clone(memory_format=PLAIN) for name, tensor in tensors.items()}
    restore_optimizer(optimizers[1], saved)
    for weight, optimizer in zip(weights, optimizers, strict=True):
        weight.grad = start.cos()
        optimizer.step()
    assert torch.equal(*weights)


def test_newest_checkpoint_replaces_older_and_keeps_best(tmp_path: Path) -> None:
    best = {"w": torch.full((2,), 7.0)}
    first = Progress().after(2, 0.9)
    save_checkpoint(tmp_path / "c", STATE, best, first)
    second = first.after(4, 0.1)
    save_checkpoint(tmp_path / "c", STATE, None, second)
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded is not None and loaded[1] == second
    assert second.best_step == 2 and second.num_worse == 1
    assert torch.equal(load_best(tmp_path / "c")["w"], best["w"])
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_crash_while_saving_keeps_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Progress().after(2, 0.9)
    save_checkpoint(tmp_path / "c", STATE, {"w": torch.ones(1)}, first)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hf_wbc.engine.checkpoint.write_json", fail)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "c", STATE, None, first.after(4, 1.0))
    monkeypatch.undo()
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded is not None and loaded[1] == first
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["00000002"]


def test_damaged_checkpoint_is_reported(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", STATE, {"w": torch.ones(1)}, Progress().after(2, 0.9))
    (tmp_path / "c" / "00000002" / "state.safetensors").write_bytes(b"\0" * 9)
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged"):
        load_checkpoint(tmp_path / "c")


def test_load_checkpoint_returns_none_before_first_save(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "c") is None

"""Compile the network of a training step with torch.compile, where a compiler exists.

The forward and backward pass of training steps are compiled; evaluations, which see batches of
other sizes and another mode, run as usual. The network is compiled in place, so that checkpoints
and exported models have the same keys with and without compilation.
"""

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hf_wbc.config import TrainConfig
from hf_wbc.models import Classifier

__all__ = ["compile_network", "missing_compiler", "uncompiled", "without_missing_compiler"]


def missing_compiler() -> str:
    """Return what torch.compile lacks on this machine, for a message; empty if nothing."""
    if torch.cuda.is_available():
        return "" if importlib.util.find_spec("triton") else "the package triton is not installed"
    default = "clang++" if sys.platform == "darwin" else "g++"
    name = next(iter(shlex.split(os.environ.get("CXX", ""))), default)
    return "" if shutil.which(name) else f"there is no C++ compiler {name} (set CXX to another)"


def without_missing_compiler(config: TrainConfig) -> TrainConfig:
    """Return the configuration without `compile` if this machine cannot compile."""
    if config.optim.compile and missing_compiler():
        return config.replace(compile=False)
    return config


def compile_network(classifier: Classifier) -> None:
    """Compile a classifier's forward and backward pass in place, at its first batch."""
    classifier.compile(dynamic=False)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled networks as usual, without compiling them again for other batches."""
    with torch.compiler.set_stance("force_eager"):
        yield

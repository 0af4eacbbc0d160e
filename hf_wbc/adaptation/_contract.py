"""What a method is, what it declares, and how it is found by name."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from torch import Tensor, nn

from hf_wbc.data.batch import Batch
from hf_wbc.models import Classifier


@dataclass(frozen=True)
class Needs:
    """What a method asks of the loader."""

    target: bool = False
    """Unlabelled target images."""
    strong: bool = False
    """A second, more strongly augmented view."""
    index: bool = False
    """The row of each sample, to remember something of it between steps."""
    images: bool = False
    """Images themselves: it cannot run on embedded features."""


@dataclass(frozen=True)
class Setting:
    """What a method may know before the first step; nothing of it comes from target labels."""

    num_steps: int
    source_domains: tuple[str, ...]
    class_counts: Tensor
    """Training images of each source domain and class (domains, classes), int64."""
    num_target: int
    """Unlabelled training images in all target domains."""


@dataclass(frozen=True)
class NoOptions:
    """For a method without options."""


class Method(nn.Module):
    """A loss around a classifier. The loop owns optimizer, schedule and precision."""

    needs: ClassVar[Needs] = Needs()
    Options: ClassVar[type[Any]] = NoOptions
    """A frozen dataclass with the paper's defaults."""
    paper: ClassVar[str]
    """Authors, year and arXiv id."""
    fails_when: ClassVar[str]
    """One sentence for `hf-wbc methods`."""

    def __init__(self, classifier: Classifier, options: Any) -> None:
        """Around a classifier, with options from `parse`."""
        super().__init__()
        self.classifier = classifier
        self.options = options

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Any:
        """Options by name as `Options`; ValueError when one is unknown or out of its range."""
        known = [field.name for field in dataclasses.fields(cls.Options)]
        if unknown := sorted(set(options) - set(known)):
            name = cls.__module__.rpartition(".")[2]
            raise ValueError(
                f"{name} has no option {', '.join(unknown)}; it knows {', '.join(known) or 'none'}"
            )
        return cls.Options(**options)

    def setup(self, setting: Setting) -> None:
        """Once, before the optimizer is made: add modules and buffers that depend on the data."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar terms, with `loss` the one to minimise."""
        raise NotImplementedError

    def after_step(self) -> None:
        """After each optimizer step: move an averaged teacher, say."""


def method_names() -> tuple[str, ...]:
    """All methods, in alphabetical order."""
    import hf_wbc.adaptation as package

    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load_method(name: str) -> type[Method]:
    """The class of a method; ValueError lists the names that exist."""
    names = method_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
        raise ValueError(f"unknown method {name!r}; {hint}")
    method: type[Method] = importlib.import_module(f"hf_wbc.adaptation.{name}").METHOD
    return method

"""The reference library's own DANN: network, step, and loader, imported from a checkout.

The library is https://github.com/thuml/Transfer-Learning-Library, called tllib. None of its code is
copied here. The benchmark times `train` of its
examples/domain_adaptation/image_classification/dann.py unchanged, including meters, accuracies, and
one print per turn.
"""

import contextlib
import copy
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from turns import Clock, Side, Steps, timed

from hf_wbc.config import TrainConfig
from hf_wbc.models import Classifier, param_groups
from hf_wbc.taxonomy import NUM_CLASSES

OWN_SIZE = 224
"""The only size to which tllib's train transform crops."""
Loader = Iterator[Any]
Files = list[tuple[Path, int]]
"""Image files, each with a label."""


class Backbone(nn.Module):
    """Adapts a transformers classifier's features to tllib's backbone interface."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier, self.out_features = classifier, classifier.num_features
        classifier.head.requires_grad_(False)  # tllib adds its own head

    def forward(self, inputs: Tensor) -> Tensor:
        return self.classifier(inputs).features


@dataclass(frozen=True)
class Theirs:
    """tllib's modules, and the non-data arguments of its `train`."""

    example: Any
    """tllib's dann.py as a module."""
    model: Any
    adversary: Any
    """tllib's `DomainAdversarialLoss`."""
    optimizer: torch.optim.Optimizer
    schedule: Any

    def steps(self, source: Loader, target: Loader, num: int) -> Steps:
        """Run steps of tllib's own loop, `num` per `next`."""
        args = SimpleNamespace(iters_per_epoch=num, print_freq=100, trade_off=1.0)
        parts = (self.model, self.adversary, self.optimizer, self.schedule)
        while True:
            with contextlib.redirect_stdout(io.StringIO()):
                self.example.train(source, target, *parts, 0, args)
            yield


def load_example(checkout: Path) -> Any:
    """Import tllib's dann.py, with the names that it expects from older numpy and torch."""
    import torch.utils.data.dataset
    import torchvision.models.resnet

    folder = checkout / "examples" / "domain_adaptation" / "image_classification"
    if not (folder / "dann.py").is_file():
        raise SystemExit(f"{checkout} holds no {folder.relative_to(checkout)}/dann.py")
    np.float = float  # type: ignore[attr-defined]
    torch.utils.data.dataset.T_co = TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]
    torchvision.models.resnet.model_urls = {}
    sys.path[:0] = [str(folder.resolve()), str(checkout.resolve())]
    try:
        import dann
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}, which the reference library wants; install it") from error
    return dann


def same_network(example: Any, method: Any, config: TrainConfig, device: torch.device) -> Theirs:
    """Wrap tllib's loss and step around copies of our method's network, with our optimizer."""
    from tllib.modules.classifier import Classifier as TheirClassifier

    ours = copy.deepcopy(method)
    head = copy.deepcopy(ours.classifier.head)
    model = TheirClassifier(
        Backbone(ours.classifier), NUM_CLASSES, head=head, pool_layer=nn.Identity()
    ).to(device)
    discriminator = nn.Sequential(ours.discriminator.layers, nn.Sigmoid())
    adversary = example.DomainAdversarialLoss(discriminator).to(device)
    groups = param_groups(
        nn.ModuleList([model, adversary]), config.optim.learning_rate, config.optim.weight_decay
    )
    optimizer = torch.optim.AdamW(groups, fused=True)
    return Theirs(example, model, adversary, optimizer, _schedule(optimizer, 1.0))


def own_network(example: Any, classifier: Classifier, device: torch.device) -> Theirs:
    """Build the network and optimizer of tllib's example around a copy of a backbone."""
    backbone = Backbone(copy.deepcopy(classifier))
    model = example.ImageClassifier(backbone, NUM_CLASSES, pool_layer=nn.Identity()).to(device)
    discriminator = example.DomainDiscriminator(model.features_dim, hidden_size=1024).to(device)
    groups = model.get_parameters() + discriminator.get_parameters()
    optimizer = torch.optim.SGD(groups, 0.01, momentum=0.9, weight_decay=1e-3, nesterov=True)
    adversary = example.DomainAdversarialLoss(discriminator).to(device)
    return Theirs(example, model, adversary, optimizer, _schedule(optimizer, 0.01))


def _schedule(optimizer: torch.optim.Optimizer, lr: float) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: lr * (1 + 1e-3 * i) ** -0.75)


def loader_turns(
    example: Any,
    halves: tuple[Files, Files],
    size: int,
    batch_size: int,
    workers: int,
    steps_of: Callable[[Loader, Loader], Steps],
    clock: Clock,
) -> Side:
    """Yield turns of one `next` of `steps_of`, applied to tllib's source and target loaders.

    Worker processes live for a single tllib turn so that they do not affect ours; batches that they
    have prefetched are consumed before timing starts.
    """
    with tempfile.TemporaryDirectory() as lists:
        while True:
            loaders = [
                _loader(example, Path(lists) / f"{number}.txt", half, size, batch_size, workers)
                for number, half in enumerate(halves)
            ]
            for number in range(2 * 2 * workers):
                next(loaders[number % 2])
            steps = steps_of(*loaders)
            seconds = next(timed(steps, 1, clock))
            del steps, loaders
            yield seconds


def _loader(
    example: Any, file: Path, half: Files, size: int, batch_size: int, workers: int
) -> Loader:
    """Build tllib's dataset, transform, and iterator as its example does."""
    from tllib.vision.datasets import ImageList

    file.write_text(
        "".join(f"{path.resolve()} {label}\n" for path, label in half), encoding="utf-8"
    )
    resizing = "default" if size == OWN_SIZE else "res."
    transform = example.utils.get_train_transform(resizing, resize_size=size)
    images = ImageList(str(file.parent), list(map(str, range(NUM_CLASSES))), str(file), transform)
    loader = example.DataLoader(
        images, batch_size=batch_size, shuffle=True, num_workers=workers, drop_last=True
    )
    iterator: Loader = example.ForeverDataIterator(loader)
    return iterator

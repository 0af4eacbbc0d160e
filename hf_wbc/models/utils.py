"""Context managers that silence transformers and isolate the random generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress log messages and progress bars of transformers while it loads or saves."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Seed random draws on the CPU; the global generator's state is restored afterwards."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)

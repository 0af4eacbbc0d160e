"""Silence around transformers where we check ourselves what it would report.

Random numbers that come from a given seed and leave the global generator where it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Neither reports nor bars of transformers while it loads or saves."""
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
    """Draws on the CPU come from the seed; afterwards the generator goes on where it was."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)

"""One training run, from its configuration to its finished folder."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from hf_wbc.adaptation import load_method
from hf_wbc.config import TrainConfig
from hf_wbc.data.augment import check_strength
from hf_wbc.engine.accelerator import make_accelerator, start_trackers
from hf_wbc.engine.context import Context
from hf_wbc.engine.corpus import load_corpus
from hf_wbc.engine.finish import finish
from hf_wbc.engine.trainer import Report, Trainer
from hf_wbc.evaluation.selection import rule
from hf_wbc.models import Lora, freeze, load_classifier
from hf_wbc.records import RunFolder, remove


def run(
    config: TrainConfig,
    root: Path,
    cache: Path,
    trackers: Sequence[str] = (),
    report: Report = lambda row: None,
) -> RunFolder:
    """Train, score and record; a finished run is returned as it is, an unfinished one resumes.

    The run's folder lies in `root`, embedded features in `cache`. ValueError for whatever the user
    can mend, before anything is trained.
    """
    method_class, selection = load_method(config.method), rule(config.selection)
    options = method_class.parse(config.method_options)
    check_strength(config.augmentation)
    lora = Lora(config.lora_rank, config.lora_alpha)
    if method_class.needs.target and not config.target:
        raise ValueError(f"{config.method} adapts to a target; name one with --target")
    if method_class.needs.images and config.inputs == "features":
        raise ValueError(f"{config.method} needs images; leave out --inputs features")
    accelerator = make_accelerator(config.precision, trackers)
    with accelerator.main_process_first():
        corpus = load_corpus(config)
        loaded = load_classifier(
            config.model, fresh=config.fresh, image_size=config.image_size, seed=config.seed
        )
    asked, is_main = config.to_dict(), accelerator.is_main_process
    config = replace(  # every default resolved, as the record tells it
        config,
        method_options=asdict(options),
        image_size=loaded.preprocessing.size,
        trainable="frozen" if config.inputs == "features" else config.trainable,
    )
    identity = {
        **config.to_dict(),
        "sources": [splits.identity() for splits in corpus.sources],
        "target": [splits.identity() for splits in corpus.targets],
        "model": loaded.revision,
        "num_processes": accelerator.num_processes,
    }
    folder = RunFolder.find(root, identity)
    if folder.finished:
        if is_main:
            remove(folder.checkpoint)
        return folder
    loaded.classifier.to(accelerator.device)
    freeze(loaded.classifier, config.trainable, config.batch_norm, lora, config.seed)
    context = Context(config, accelerator, folder, corpus, loaded, cache)
    trainer = Trainer(context, method_class(loaded.classifier, options), selection, report)
    with folder.writing(asked, identity) if is_main else nullcontext():
        start_trackers(accelerator, folder.path, asked)
        finish(context, trainer.train(), selection)
    accelerator.end_training()
    return folder

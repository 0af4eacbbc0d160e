"""What `hf-wbc label` does between opening a folder and saving a model: ask, learn and report."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_wbc.cli.display import stage_progress
from hf_wbc.data.labels_file import (
    SKIP,
    Answer,
    LabelsFile,
    match_names,
    note_strategy,
    parse_class,
)
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.escape import plain_lines, print_plain
from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.file_lock import lock_output
from hf_wbc.inference.gallery import read_reference_set
from hf_wbc.inference.options import PredictOptions
from hf_wbc.labeling.acceptance import Acceptance, Limits, accept, write_acceptance
from hf_wbc.labeling.adapt import prototypes_of
from hf_wbc.labeling.adapted_model import FACTS_FILE
from hf_wbc.labeling.contact_sheet import KEYS, write_sheet
from hf_wbc.labeling.drift import FEWEST, build_baseline
from hf_wbc.labeling.label_formats import (
    TOOL_SUFFIXES,
    check_export,
    export_cells,
    import_answers,
)
from hf_wbc.labeling.learner import Learner
from hf_wbc.labeling.pool import Pool, answers_of, open_pool
from hf_wbc.labeling.strategies import load_strategy
from hf_wbc.labeling.summary import describe
from hf_wbc.models import PretrainedModel
from hf_wbc.records import require_own_folder
from hf_wbc.taxonomy import CLASSES, UNLABELED
from hf_wbc.text import plural

if TYPE_CHECKING:
    from hf_wbc.cli.label import LearningOptions

__all__ = ["LabelSession", "check_learning", "open_laboratory", "run_session", "write_report"]

BUDGET = 50
"""Number of cells to label where nothing else is said and there are as many."""


class LabelSession:
    """One call of `hf-wbc label`.

    Attributes:
        learner: The learner, which knows all labels.
        file: The labels file, where every answer is written at once.
    """

    def __init__(self, learner: Learner, file: LabelsFile, budget: int | None = None) -> None:
        """Continue from the labels in the file.

        Raises:
            ValueError: If the budget exceeds the pool, or a label does not fit it.
        """
        pool = learner.pool
        budget = min(BUDGET, len(pool)) if budget is None else budget
        if not 1 <= budget <= len(pool):
            raise ValueError(
                f"--budget is {budget}, but {pool.name} has {len(pool)} cells to label; use 1 to "
                f"{len(pool)}"
            )
        self.learner, self.file, self.budget = learner, file, budget
        learner.tell_answers(file.answers)

    def collect(self, add: Sequence[Path], folder_labels: bool) -> None:
        """Take labels that exist; those of files are written to the labels file."""
        for path in add:
            new = self._new_answers(path)
            self.learner.tell_answers(new)  # checked before anything is written
            for each in new:
                self.file.append(each)
            print_plain(f"{path}: {plural(len(new), 'label')} added to {self.file.path}")
        if folder_labels:
            pool = self.learner.pool
            names = [pool.image_ids[row] for row in np.flatnonzero(pool.labels != UNLABELED)]
            unknown = [each for each in names if each not in self.learner.answered]
            self.learner.tell_answers(answers_of(pool, unknown))

    def _new_answers(self, path: Path) -> list[Answer]:
        """Return the answers of a file that the labels file lacks, under the pool's names.

        Raises:
            ValueError: If the file is damaged, or contradicts itself or the labels file.
        """
        pool = self.learner.pool
        answers = match_names(import_answers(path, pool.image_ids), pool.image_ids, pool.held_out)
        known = {(each.image_id, each.reader): each.label for each in self.learner.answers}
        new = [each for each in answers if known.get((each.image_id, each.reader)) != each.label]
        for each in new:
            before = known.get((each.image_id, each.reader), SKIP)
            if before != SKIP:
                raise ValueError(
                    f"{path}: {each.image_id} is {each.label}, but {before} in {self.file.path}, "
                    "by the same reader; remove one of the rows"
                )
        return new

    def export(self, path: Path, batch: int) -> None:
        """Write the next cells for Label Studio or CVAT."""
        wanted = self._next(batch)
        export_cells(path, wanted)
        print_plain(f"{path}: {len(wanted)} cells; give the labels back with --add")

    def ask(self, batch: int, reader: str, suggest: bool) -> None:
        """Ask on a terminal until the budget is used up; elsewhere write the page of the next."""
        while wanted := self._next(batch):
            sheet, suggestions = self.file.path.with_suffix(".html"), self._suggestions(wanted)
            learner = self.learner
            assert learner.pool.images is not None
            write_sheet(
                sheet,
                learner.pool.name,
                learner.pool.images.read(wanted),
                suggestions,
                out=f"{self.file.path.stem}.{len(learner.answered)}.csv",
                reader=reader,
            )
            done = f"{len(learner.answered)} of {self.budget} are done"
            if not sys.stdin.isatty():
                print_plain(
                    f"{sheet}: {len(wanted)} cells to label, {done}; open it in a browser, save "
                    "the labels there, and repeat this command with --add FILE"
                )
                return
            print_plain(f"{sheet} shows the next {len(wanted)} cells, {done}.")
            print_plain(f"Keys: {_keys()}, u undo, q stop")
            if not self._ask_each(wanted, suggestions if suggest else {}, reader):
                return

    def report(self, save: Path | None) -> None:
        """Print what the labels brought, and save the adapted model if a folder is given."""
        print_plain("\n".join(describe(self.learner)))
        is_done = len(self.learner.answered) >= self.budget
        if save is not None and not is_done and not self.learner.adaptation.is_adapted:
            print_plain(f"{save} is not written yet, because the model has not changed")
        elif save is not None:
            with lock_output(save, waits=True):
                print_plain(f"{self.learner.save(save)}: the adapted model, used like any other")

    def _next(self, batch: int) -> list[str]:
        left = min(self.budget - len(self.learner.answered), self.learner.num_left)
        return self.learner.next(min(batch, left)) if left > 0 else []

    def _ask_each(self, wanted: Sequence[str], suggestions: Mapping[str, str], reader: str) -> bool:
        """Ask for each cell; return whether the reader wants to go on."""
        place = 0
        while place < len(wanted):
            image_id, start = wanted[place], time.monotonic()
            hint = f" ({suggestions[image_id]})" if image_id in suggestions else ""
            try:
                text = input(plain_lines(f"{place + 1}/{len(wanted)} {image_id}{hint}: ")).strip()
            except EOFError:
                return False
            if text == "q":
                return False
            if text == "u":
                if place and (last := self.file.undo()):
                    self.learner.forget(last)
                    place -= 1
                continue
            try:
                label = KEYS.get(text) or parse_class(text)
            except ValueError as error:
                print_plain(error)
                continue
            answer = Answer(image_id, label, reader, round(time.monotonic() - start, 1))
            self.file.append(answer)
            self.learner.tell_answers([answer])
            place += 1
        return True

    def _suggestions(self, wanted: Sequence[str]) -> dict[str, str]:
        """Return the most probable class of each cell, and how probable it is."""
        pool = self.learner.pool
        p = self.learner.quick_proba(pool.rows(wanted))
        return {
            image_id: f"{CLASSES[int(row.argmax())].clinical_name} {row.max():.0%}"
            for image_id, row in zip(wanted, p, strict=True)
        }


def run_session(
    model: str,
    ref: str,
    out: Path,
    mapping: Path | None,
    cache: Path,
    options: PredictOptions,
    budget: int | None,
    learning: "LearningOptions",
) -> LabelSession:
    """Open a folder or dataset, and its labels file."""
    file = LabelsFile(out)
    check_learning([learning.strategy], learning.merge)
    pretrained, pool = open_laboratory(model, ref, mapping, cache, options)
    prototypes = prototypes_of(read_reference_set(model, pretrained))
    learner = Learner.of_model(pretrained, pool, prototypes=prototypes, **asdict(learning))
    note_strategy(out, learning.strategy)
    return LabelSession(learner, file, budget)


def check_learning(
    strategies: Sequence[str],
    merge: Sequence[str],
    labels: Sequence[Path] = (),
    export: Path | None = None,
    model: Path | None = None,
) -> None:
    """Raise ValueError for arguments that would otherwise fail after all cells are embedded.

    Args:
        strategies: Names of labeling strategies.
        merge: Classes to score as one, as FROM=INTO.
        labels: Files of labels to read.
        export: File of cells to write.
        model: Folder of the adapted model to write.
    """
    if model is not None:
        require_own_folder(model, FACTS_FILE, "hf-wbc label")
    if export is not None:
        check_export(export)
    merged_labels(merge)
    for name in strategies:
        load_strategy(name)
    for path in labels:
        if not path.is_file():
            raise ValueError(f"{path} does not exist; give a file of labels")
        if path.suffix.lower() not in TOOL_SUFFIXES:
            import_answers(path, ())


def open_laboratory(
    model: str,
    ref: str,
    mapping: Path | None,
    cache: Path,
    options: PredictOptions,
    reserve_test: bool = True,
) -> tuple[PretrainedModel, Pool]:
    """Embed the cells of a laboratory, with the scale of the mapping file if there is one."""
    classes: Mapping[str, str | None] = {}
    if mapping is not None:
        import dataset_scripts

        spec = dataset_scripts.load("class_folders", mapping=mapping)
        classes = spec.labels
        if not (options.cell_fills_frame or options.um_per_px or options.estimate_scale):
            fills = spec.um_per_px is None
            options = replace(options, um_per_px=spec.um_per_px, cell_fills_frame=fills)
    with stage_progress() as progress:
        pretrained, pool = open_pool(
            model, ref, options, cache, classes=classes, reserve_test=reserve_test,
            on_progress=partial(progress, f"embed {ref}"),
        )  # fmt: skip
    for note in pool.notes:
        print_plain(note)
    return pretrained, pool


def _keys() -> str:
    clinical_names = {cell.name: cell.clinical_name for cell in CLASSES}
    return ", ".join(f"{key} {clinical_names.get(label, label)}" for key, label in KEYS.items())


def write_report(
    model: str,
    ref: str,
    labels: Sequence[Path],
    out: Path,
    limits: Limits,
    merge: Sequence[str],
    adapted: bool,
    seed: int,
    cache: Path,
    options: PredictOptions,
) -> Acceptance:
    """Judge a model by labels of a laboratory, and write the report of `hf-wbc accept`."""
    check_learning((), merge, labels)
    pretrained, pool = open_laboratory(model, ref, None, cache, options)
    if pool.name in pretrained.exposed_to:
        raise ValueError(
            f"{model} has seen images of {pool.name}, so these labels may flatter it; give the "
            "model before adaptation, with --adapted"
        )
    learner = Learner.of_model(pretrained, pool, merge=merge, seed=seed, adapts=adapted)
    for path in labels:
        learner.tell_answers(import_answers(path, pool.image_ids))
    report = accept(learner, model, limits)
    abstention = fit_run_abstention(pretrained)
    rejection = None if abstention is None else abstention.rejection
    baseline = None
    if len(pool) >= FEWEST:
        baseline = build_baseline(pool, rejection, pretrained.revision)
    named = ", ".join(path.name for path in labels)
    write_acceptance(out, report, baseline, {"revision": pretrained.revision, "labels": named})
    return report

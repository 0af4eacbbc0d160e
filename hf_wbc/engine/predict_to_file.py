"""From a model and images to a file of answers, whole or not at all, by one process or several."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from hf_wbc.data.schema import SPLITS
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.answers import Format, check_out, write_answers
from hf_wbc.engine.forward import Report, silent
from hf_wbc.engine.predict_images import Answers, predict_images
from hf_wbc.prepare.work_folder import WorkFolder, naming_full_disk, working_on


def predict_to_file(
    model: str,
    ref: str,
    out: Path,
    form: Format,
    *,
    um_per_px: float | None = None,
    cell_fills_frame: bool = False,
    skip_bad: bool = False,
    splits: Sequence[str] = SPLITS,
    num_proc: int | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    report: Report = silent,
) -> Answers | None:
    """As `predict_images`, into `out`; None on all processes but the first.

    What is done so far lies in OUT.partial, from where the same command goes on after a kill.
    """
    check_out(out, form)
    accelerator = make_accelerator()
    with ExitStack() as stack:
        work = WorkFolder(out)
        if accelerator.is_main_process:
            stack.enter_context(naming_full_disk(out))
            work = stack.enter_context(working_on(out))
        accelerator.wait_for_everyone()
        answers = predict_images(
            model,
            ref,
            work.root,
            accelerator,
            um_per_px=um_per_px,
            cell_fills_frame=cell_fills_frame,
            skip_bad=skip_bad,
            splits=splits,
            num_proc=num_proc,
            engine=engine,
            precision=precision,
            report=report if accelerator.is_main_process else silent,
        )
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return None
        write_answers(answers, out, form)
        work.remove()
    return answers

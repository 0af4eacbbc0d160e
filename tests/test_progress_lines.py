"""Without a terminal, long commands report progress: done, total, rate, and time left."""

import io
import time
from contextlib import redirect_stderr

import pytest

from hf_wbc.cli.display import stage_progress
from hf_wbc.progress_lines import ProgressLines, progress_lines


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_line_shows_done_total_rate_and_time_left(clock: Clock) -> None:
    written: list[str] = []
    lines = ProgressLines(written.append, clock)
    lines.report("embed", 0, 100_000)
    lines.write_pending()
    clock.now += 60
    lines.report("embed", 12_780, 100_000, status="loss 0.4")
    lines.write_pending()
    clock.now += 60
    lines.report("embed", 100_000, 100_000)
    lines.report("embed", 100_000, 100_000)
    lines.write_pending()
    assert written == [
        "embed: 0 of 100,000 (0%), time left not known after 0 s",
        "embed: 12,780 of 100,000 (13%), 213 per second, 7 min left, loss 0.4",
        "embed: 100,000 of 100,000, 833 per second, took 2 min",
    ]


def test_work_of_an_earlier_call_does_not_count_as_speed(clock: Clock) -> None:
    written: list[str] = []
    lines = ProgressLines(written.append, clock)
    lines.report("predict", 9_000, 10_000)
    clock.now += 100
    lines.report("predict", 9_010, 10_000)
    lines.write_pending()
    assert written == ["predict: 9,010 of 10,000 (90%), 6.0 per minute, 2 h 45 min left"]


def test_unfinished_stages_get_a_line_and_empty_stage_ends_once(clock: Clock) -> None:
    written: list[str] = []
    lines = ProgressLines(written.append, clock)
    lines.report("a", 0, 0)
    lines.report("a", 0, 0)
    lines.report("b", 1, 2)
    lines.report("c", 0, 1)
    lines.write_pending()
    assert [line.partition(":")[0] for line in written] == ["a", "b", "c"]


def test_lines_appear_regularly_even_if_nothing_is_reported() -> None:
    file = io.StringIO()
    with progress_lines(file, interval_s=0.02) as lines:
        lines.report("scan", 3, 10)
        deadline = time.monotonic() + 10
        while file.getvalue().count("\n") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    written = file.getvalue()
    assert written.count("scan: 3 of 10 (30%)") >= 3
    time.sleep(0.05)
    assert file.getvalue() == written


def test_unwritable_file_does_not_stop_the_command() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with progress_lines(Full()) as lines:
        lines.report("scan", 10, 10)


def test_only_first_process_writes_lines_outside_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("0", "read: 5 of 5, took 0 s\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        with redirect_stderr(io.StringIO()) as stderr, stage_progress() as report:
            report("read", 5, 5)
        assert stderr.getvalue() == expected

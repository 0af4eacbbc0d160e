"""Worker processes answer every job, forward errors, and never outlive the parent."""

import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_wbc.data.parallel import WorkerPool, num_cores

ASLEEP = """
import os, signal, time
from hf_wbc.data.parallel import WorkerPool
with WorkerPool(2, 60) as workers:
    print(*(process.pid for process, _ in workers._processes), flush=True)
    if {ctrl_c}:
        os.killpg(0, signal.SIGINT)
    list(workers.run(time.sleep, [(), ()]))
"""

DEFERRED = """
import signal, threading
from hf_wbc.data.parallel import block_interrupt

def take_ctrl_c():  # like a thread of C code with its own signal mask
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with block_interrupt():
        thread = threading.Thread(target=take_ctrl_c)
        thread.start()
        thread.join()
        print("done", flush=True)
except KeyboardInterrupt:
    print("raised", flush=True)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


@pytest.mark.parametrize("num_proc", [1, 2])
def test_every_job_is_answered_once(num_proc: int) -> None:
    with WorkerPool(num_proc, 100) as workers:
        for _ in range(2):
            answers = dict(workers.run(operator.add, [(number,) for number in range(7)]))
            assert answers == {number: 100 + number for number in range(7)}
        assert list(workers.run(operator.add, [])) == []


@pytest.mark.parametrize("num_proc", [1, 2])
def test_job_error_is_raised_in_parent(num_proc: int) -> None:
    with pytest.raises(ZeroDivisionError), WorkerPool(num_proc, 1) as workers:
        list(workers.run(operator.truediv, [(1,), (0,), (1,)]))


def test_os_error_keeps_its_number_and_file() -> None:
    with WorkerPool(2, "/nowhere/at/all") as workers, pytest.raises(FileNotFoundError) as error:
        list(workers.run(os.listdir, [()]))
    assert error.value.filename == "/nowhere/at/all"


def test_killed_worker_is_detected() -> None:
    with WorkerPool(2, signal.SIGKILL) as workers:
        with pytest.raises(ChildProcessError, match=r"died \(exit code -9\).*lower --num-proc"):
            list(workers.run(signal.raise_signal, [(), ()]))
        left = [process for process, _ in workers._processes]
    assert not any(process.is_alive() for process in left)


def test_single_process_pool_runs_in_the_caller() -> None:
    with WorkerPool(1, None) as workers:
        assert workers._processes == []
    assert num_cores() >= 1


def test_ctrl_c_is_unblocked_afterwards() -> None:
    with WorkerPool(2, 1):
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_is_deferred_while_a_worker_starts() -> None:
    """Run in a process of its own, which a Ctrl-C that is not deferred may end."""
    ran = subprocess.run(
        [sys.executable, "-c", DEFERRED], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout.split(), ran.stderr) == (0, ["done", "raised"], "")


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["killed", "ctrl-c"])
def test_workers_end_with_their_parent_during_a_job(ctrl_c: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ASLEEP.format(ctrl_c=ctrl_c)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None and parent.stderr is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    if not ctrl_c:
        parent.kill()
    said = parent.communicate(timeout=20)[1]
    assert said.count("Traceback") == int(ctrl_c), said  # only the parent's own
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            != "Z"
        )
    except FileNotFoundError:
        return False


def test_script_without_main_guard_can_start_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import operator\nfrom hf_wbc.data.parallel import WorkerPool\n"
        "print('once')\n"
        "with WorkerPool(2, 1) as workers:\n"
        "    print(workers.map(operator.add, [(1,), (2,)]))\n"
        "print(__spec__, __file__)"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"once\n[2, 3]\nNone {script}\n", done.stderr

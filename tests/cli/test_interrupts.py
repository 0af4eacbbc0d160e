"""Ctrl-C takes effect where native code survives it, and a process ends without finalizing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

SLOW_IMPORT = """
import time
from pathlib import Path
Path("importing").touch()
try:
    time.sleep(1)
except BaseException as error:
    raise ImportError("half initialized") from error
WAIT = 30
"""
"""An import that replaces an interrupt by an error of its own, as those of native libraries do."""


def test_interrupt_during_import_waits_until_it_ends(tmp_path: Path) -> None:
    (tmp_path / "slow_import.py").write_text(SLOW_IMPORT)
    code = (
        "import hf_wbc.cli.main as main, time, sys\n"
        "def command(arguments):\n"
        "    import slow_import\n"
        "    print(slow_import.WAIT, flush=True)\n"
        "    time.sleep(slow_import.WAIT)\n"
        "main.parse_and_run = command\n"
        "main.run_program()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        while not (tmp_path / "importing").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert err == "hf-wbc: interrupted\n"
    assert out == "30\n", "the import is complete"


def test_interrupt_ignored_in_finalizer_takes_effect() -> None:
    """In a process of its own: a repeated Ctrl-C that comes late would end this one."""
    code = (
        "import signal, time\n"
        "from hf_wbc.cli.interrupts import CtrlC\n"
        "class Finalized:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGINT)\n"
        "try:\n"
        "    with CtrlC() as pressed:\n"
        "        Finalized()\n"
        "        time.sleep(10)\n"
        "        print('Ctrl-C is lost')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', pressed.num_presses)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted 1\n", done.stderr


def test_error_replacing_an_interrupt_counts_as_interrupt() -> None:
    """Runs in a process of its own, as a signal can end the one that it is sent to."""
    code = (
        "import signal, sys\n"
        "from hf_wbc.cli import main as module\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def swallow(arguments):\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        raise RuntimeError('initialization failed') from None\n"
        "    return 0\n"
        "module.parse_and_run = swallow\n"
        "status = module.main([])\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and "interrupted" in done.stderr, done.stderr


def test_process_exits_without_finalizing_native_threads(tmp_path: Path) -> None:
    """A daemon thread that calls into the interpreter crashes or hangs a finalized one."""
    code = (
        "import atexit, os, sys\n"
        "from hf_wbc.cli.interrupts import end_process\n"
        "class Native:\n"
        "    def __del__(self): os.abort()\n"
        "thing = Native()\n"
        "atexit.register(print, 'cleaned up')\n"
        "sys.stdout.write('result ')\n"
        "end_process(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "result cleaned up\n")

"""`hf-wbc demo`: run the web page on this machine with your own model."""

import os
import sys
from pathlib import Path

from hf_wbc.cli.path_arguments import OutputFile
from hf_wbc.escape import print_plain

LABORATORIES = ("acevedo_20", "matek_19", "mll_23", "wbc_1")
"""Sources whose scale can be selected by name."""
MAX_PORT = 65535
THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of the libraries, so that threads without work leave the processors to others'
requests. It does not change what the user has set."""


def demo(
    model: str | None = None,
    compare: tuple[str, ...] = (),
    runs: Path = Path("runs"),
    limits: Path | None = None,
    labels: OutputFile | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    mcp: bool = False,
) -> None:
    """Start a web page that classifies the cells in uploaded images.

    Example: hf-wbc demo --model runs/RUN/model

    Images stay in memory; nothing is sent elsewhere or stored. Press Ctrl-C to stop.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`. If omitted, the newest
            finished run, or else the model that ships with hf_wbc, trained on Acevedo_20.
        compare: Other models; the page ranks how well each fits the uploaded cells.
        runs: Folder to search for finished runs.
        limits: TOML file with your limits of the flags of a count, such as `left_shift.above = 15`;
            the rest are those of adults, listed on the page.
        labels: CSV in which the tab Label writes every answer at once; without it, labels stay in
            memory until they are downloaded.
        host: Address to serve on; 0.0.0.0 makes the page accessible from the network.
        port: Port to serve on; 0 selects a free one.
        mcp: Also offer the page to assistants as a server of the Model Context Protocol.
    """
    os.environ.update(THREADS | os.environ)  # the libraries read it when they load

    from dataclasses import replace

    from hf_wbc.app.launch import keep_private, launch
    from hf_wbc.app.startup import find_model, load_in_background, make_service
    from hf_wbc.data.labels_file import LabelsFile
    from hf_wbc.evaluation.smear_limits import load_limits, load_ranges

    _check_options(port, mcp)
    if labels is not None:
        _require_own_page(host)
        LabelsFile(labels)  # its mistakes are reported before anything is loaded
    found = find_model(model, runs)
    print_plain(f"model: {found}", flush=True)
    service = replace(
        make_service(found, compare, _scales()),
        smear_limits=load_limits(limits),
        reference_ranges=load_ranges(limits),
        labels=labels,
    )
    with keep_private():
        page, url = launch(service, host, port or None, mcp)
        print_plain(f"open {url} in a browser; Ctrl-C closes the page", flush=True)
        load_in_background(
            service, lambda message: print_plain(message, file=sys.stderr, flush=True)
        )
        service.wait()
        print("the model is loaded", flush=True)
        page.block_thread()


def _scales() -> dict[str, float]:
    """Return the known scales in um per pixel by source."""
    import dataset_scripts

    sources = [dataset_scripts.load(name) for name in LABORATORIES]
    return {each.name: each.um_per_px for each in sources if each.um_per_px}


def _require_own_page(host: str) -> None:
    """Raise ValueError if others could write to the labels file."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError(
            f"--labels writes to one file, but --host {host} lets others use the page; leave out "
            "one of them"
        )


def _check_options(port: int, mcp: bool) -> None:
    """Raise ValueError for a port that does not exist, or a package that is not installed."""
    from importlib.util import find_spec

    if not 0 <= port <= MAX_PORT:
        raise ValueError(f"--port is {port}; give 1 to {MAX_PORT}, or 0 for a free one")
    if find_spec("gradio") is None:
        raise ValueError("the page needs Gradio; install it: pip install 'hf_wbc[app]'")
    if mcp and find_spec("mcp") is None:
        raise ValueError("--mcp needs the package mcp; install it: pip install 'gradio[mcp]'")

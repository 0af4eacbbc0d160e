"""`hf-wbc demo`: the page in the browser, on this machine, with a model of one's own."""

import sys
from pathlib import Path

LABORATORIES = ("acevedo_20", "matek_19", "mll_23", "wbc_1")
"""Whose scale may be chosen by name."""


def demo(
    model: str | None = None,
    compare: tuple[str, ...] = (),
    runs: Path = Path("runs"),
    host: str = "127.0.0.1",
    port: int = 7860,
) -> None:
    """Open a page that names the white cells in the images that one drops on it.

    Images stay in memory, nothing is sent to anyone, and nothing is kept. Ctrl-C closes it.

    Args:
        model: A trained model: a run's model folder, or a Hub model `org/name[@revision]`. Without
            one the newest finished run is taken, and where there is none a toy that has seen
            drawings alone.
        compare: Other models; the page says which of them fits the dropped cells best.
        runs: Where finished runs are looked for.
        host: The address to serve; 0.0.0.0 lets others in this network use the page.
        port: The port to serve; 0 takes a free one.
    """
    from importlib.util import find_spec

    import dataset_scripts
    from hf_wbc.app.launch import keep_private, launch
    from hf_wbc.app.startup import find_model, load_in_background, make_service

    if find_spec("gradio") is None:
        raise ValueError("the page needs Gradio; install it: pip install 'hf_wbc[app]'")
    found = find_model(model, runs)
    print(f"model: {found}", flush=True)
    sources = [dataset_scripts.load(name) for name in LABORATORIES]
    scales = {each.name: each.um_per_px for each in sources if each.um_per_px}
    service = make_service(found, compare, scales)
    with keep_private():
        page, url = launch(service, host, port or None)
        print(f"open {url} in a browser; Ctrl-C closes the page", flush=True)
        load_in_background(service, lambda said: print(said, file=sys.stderr, flush=True))
        service.wait()
        print("the model is loaded", flush=True)
        page.block_thread()

"""What the environment says of the Hub, before any library reads it.

With an endpoint of one's own, nothing may tell the outside what is loaded: `datasets` and
`evaluate` report names to a public bucket, transformers asks a public Space to convert weights,
gradio calls home. All of them can be told not to, each by a variable of its own. The same goes for
HF_HUB_OFFLINE, which not all of them read, and for an own authority's certificate.
"""

from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

PUBLIC = "https://huggingface.co"
QUIET = {
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
_TRUE = {"1", "ON", "YES", "TRUE"}


def is_private(environ: MutableMapping[str, str]) -> bool:
    """Whether the endpoint is not the public Hub."""
    return environ.get("HF_ENDPOINT", PUBLIC).rstrip("/") != PUBLIC


def is_offline(environ: MutableMapping[str, str]) -> bool:
    """Whether HF_HUB_OFFLINE asks for it."""
    return environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def keep_within(environ: MutableMapping[str, str]) -> None:
    """Make every library keep to the endpoint, the certificate and offline mode that are set.

    Variables that the user set stay, and with the public Hub nothing changes. ValueError for an
    endpoint that is no URL, and for a certificate that is not there.
    """
    _check_endpoint(environ)
    if certificate := environ.get("SSL_CERT_FILE"):
        if not Path(certificate).is_file():
            raise ValueError(
                f"SSL_CERT_FILE is {certificate}, which is no file; give your authority's "
                "certificate in PEM, or unset it"
            )
        environ.setdefault("REQUESTS_CA_BUNDLE", certificate)  # what evaluate reads
    if is_private(environ) or is_offline(environ):
        for name, value in QUIET.items():
            environ.setdefault(name, value)
    if is_offline(environ):
        for name, value in OFFLINE.items():
            environ.setdefault(name, value)


def _check_endpoint(environ: MutableMapping[str, str]) -> None:
    given = environ.get("HF_ENDPOINT")
    if given is None:
        return
    if not given.strip():
        del environ["HF_ENDPOINT"]  # the libraries would ask the empty address
        return
    url = urlsplit(given.strip())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"HF_ENDPOINT is {given!r}; give a URL such as https://hub.hospital.org")
    environ["HF_ENDPOINT"] = given.strip().rstrip("/")

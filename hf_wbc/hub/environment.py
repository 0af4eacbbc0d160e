"""Environment variables of the Hub, completed before any library reads them.

With a private endpoint, no library may tell the outside what is loaded: by default `datasets` and
`evaluate` report names to a public bucket, transformers asks a public Space to convert weights, and
gradio sends analytics. Each has its own variable to turn this off. HF_HUB_OFFLINE and the
certificate of a private authority also need several variables, as not all libraries read the same.
"""

import math
import re
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

from hf_wbc.data.proxies import direct_loopback, is_loopback, proxy_variables

__all__ = ["is_offline", "is_private", "keep_within"]

_NUMBERS = (
    "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_DATASETS_IN_MEMORY_MAX_SIZE",
    "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS", "GRADIO_DEBUG", "GRADIO_ANALYTICS_MAX_EVENTS",
    "GRADIO_NODE_NUM_PORTS", "SKLEARN_WORKING_MEMORY", "LOKY_MAX_CPU_COUNT", "LOKY_MAX_DEPTH",
    "JOBLIB_MULTIPROCESSING", "TIMM_FUSED_ATTN", "TIMM_USE_SCIPY_INTERP", "TIMM_USE_OLD_CACHE",
    "TIMM_FOREACH_CHUNK_SIZE", "TORCHDYNAMO_REPRO_LEVEL", "AOTINDUCTOR_REPRO_LEVEL",
    "TORCH_DYNAMO_GC_GEN2_THRESHOLD_DURING_COMPILE", "TORCHINDUCTOR_CHUNKER_NUM_CHUNKS",
    "TORCHINDUCTOR_COMPILE_THREADS", "TORCHINDUCTOR_CPP_GEMM_MAX_K_SLICES",
    "TORCHINDUCTOR_CPP_MIN_CHUNK_SIZE", "TORCHINDUCTOR_FILE_LOCK_TIMEOUT",
    "TORCHINDUCTOR_MIN_NUM_SPLIT", "TORCHINDUCTOR_ORIGAMI_TOPK", "TORCHINDUCTOR_REDIS_PORT",
)  # fmt: skip
"""Variables that libraries convert to a number while they are imported."""
_FRACTIONS = frozenset({"HF_DATASETS_IN_MEMORY_MAX_SIZE"})
_SETTINGS = r"\w+:(\[[^\]]*\]|[^,\[\]]+)"
_TRUTH = ("y|yes|t|true|on|1|n|no|f|false|off|0", "1 or 0")
_VALUES = {
    "ACCELERATE_LOG_LEVEL": ("debug|info|warning|error|critical", "debug, info, warning or error"),
    "ACCELERATE_USE_CPU": _TRUTH,
    "ACCELERATE_CPU_AFFINITY": _TRUTH,
    "ACCELERATE_DEBUG_MODE": _TRUTH,
    "GOMP_CPU_AFFINITY": (r"[\d\s,:-]+", "numbers of cores, such as 0-3"),
    "PYTORCH_JIT": ("0|1", "1 or 0"),
    "TORCH_DISTRIBUTED_DEBUG": ("off|info|detail", "OFF, INFO or DETAIL"),
    **dict.fromkeys(
        ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"),
        (rf"{_SETTINGS}(,\s*{_SETTINGS})*,?", "NAME:VALUE, such as expandable_segments:True"),
    ),
}
"""What variables must match, and what to give; otherwise a library raises, aborts or hangs."""

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
    """Whether HF_HUB_OFFLINE is set."""
    return environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def keep_within(environ: MutableMapping[str, str]) -> None:
    """Make every library respect the endpoint, certificate and offline mode of the environment.

    Variables that the user has set stay, except that this machine is exempt from proxies. With the
    public Hub nothing else changes.

    Args:
        environ: The environment to complete, such as `os.environ`.

    Raises:
        ValueError: The endpoint is not a URL, the certificate does not exist, or a library cannot
            read the value of another variable.
    """
    _check_numbers(environ)
    _check_values(environ)
    _check_endpoint(environ)
    if is_loopback(environ.get("HF_ENDPOINT", PUBLIC)):
        for name in proxy_variables(environ):
            del environ[name]
    direct_loopback(environ)
    if certificate := environ.get("SSL_CERT_FILE"):
        if not Path(certificate).is_file():
            raise ValueError(
                f"SSL_CERT_FILE is {certificate}, which does not exist; give your authority's "
                "certificate in PEM format, or unset the variable"
            )
        environ.setdefault("REQUESTS_CA_BUNDLE", certificate)  # read by evaluate
    if is_private(environ) or is_offline(environ):
        for name, value in QUIET.items():
            environ.setdefault(name, value)
    if is_offline(environ):
        for name, value in OFFLINE.items():
            environ.setdefault(name, value)


def _check_numbers(environ: MutableMapping[str, str]) -> None:
    for name in _NUMBERS:
        value = environ.get(name, "0")
        if not value.strip():
            del environ[name]
        elif not _is_number(value, name in _FRACTIONS):
            raise ValueError(f"{name} is {value!r}, which is no number; correct or unset it")


def _check_values(environ: MutableMapping[str, str]) -> None:
    for name, (pattern, example) in _VALUES.items():
        value = environ.get(name)
        if value is None:
            continue
        if not value.strip():
            del environ[name]
        elif not re.fullmatch(pattern, value.strip(), re.IGNORECASE):
            raise ValueError(f"{name} is {value!r}; give {example}, or unset it")


def _is_number(value: str, may_be_fraction: bool) -> bool:
    try:
        return math.isfinite(float(value)) if may_be_fraction else int(value) >= 0
    except ValueError:
        return False


def _check_endpoint(environ: MutableMapping[str, str]) -> None:
    given = environ.get("HF_ENDPOINT")
    if given is None:
        return
    if not given.strip():
        del environ["HF_ENDPOINT"]  # the libraries would use an empty URL
        return
    url = urlsplit(given.strip())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"HF_ENDPOINT is {given!r}; give a URL such as https://hub.hospital.org")
    environ["HF_ENDPOINT"] = given.strip().rstrip("/")

"""Endpoint, certificate, and offline mode are respected, and no other host is contacted."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.cli.main import main
from hf_wbc.data.dataset import load_split, load_splits
from hf_wbc.hub.environment import PUBLIC, keep_within
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_dataset import dataset_publication
from hf_wbc.hub.publish_model import model_publication
from hf_wbc.hub.publish_space import metric_publication
from hf_wbc.models import load_classifier
from hf_wbc.preparation.source import ArchiveSpec

EVERYTHING = """
import json, os, socket, sys
from hf_wbc.hub.environment import keep_within

if GUARDED:
    keep_within(os.environ)
asked, ask = set(), socket.getaddrinfo

def listen(host, *more, **named):
    asked.add(host.decode() if isinstance(host, bytes) else host)
    if host not in (b"127.0.0.1", "127.0.0.1"):
        raise OSError("there is no outside")
    return ask(host, *more, **named)

socket.getaddrinfo = listen
import datasets
from hf_wbc.data.dataset import load_split
from hf_wbc.models import load_trained

datasets.config.USE_PARQUET_EXPORT = False
names = set(load_split("lab/wbc-lab-a", "train").image_ids)
load_trained("lab/wbc-vit@v1")
score = None
if PLAIN:
    import evaluate
    from transformers import AutoModelForImageClassification

    assert names == set(datasets.load_dataset("lab/wbc-lab-a", split="train")["image_id"])
    AutoModelForImageClassification.from_pretrained("lab/wbc-vit", revision="v1")
    metric = evaluate.load("lab/wbc_macro_f1", revision="v1")
    score = metric.compute(predictions=[2, 2, 9, 10], references=[2, 2, 9, 9])["macro_f1"]
print("SAID" + json.dumps([sorted(asked), score]))
"""


@pytest.fixture
def published(
    hub: Any,
    prepared: Mapping[str, Path],
    labs: Mapping[str, ArchiveSpec],
    runs: Mapping[str, Path],
) -> None:
    """Publish a dataset, a model, and the metric, all private."""
    data = parse_destination("lab/wbc-lab-a", "dataset")
    publish(dataset_publication(prepared["lab_a"], labs["lab_a"], public=False), data)
    model = parse_destination("lab/wbc-vit", "model")
    publish(model_publication(runs["vit"], model, labs, public=False), model)
    metric = parse_destination("lab/wbc_macro_f1", "metric")
    publish(metric_publication("wbc_macro_f1", metric, public=False), metric)


def everything(env: dict[str, str], guarded: bool, plain: bool = True) -> list[Any]:
    """Return the requested hosts, and with `plain` (other libraries) a score of the metric."""
    for name in ("HF_UPDATE_DOWNLOAD_COUNTS", "HF_HUB_DISABLE_TELEMETRY"):
        env.pop(name, None)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            EVERYTHING.replace("GUARDED", str(guarded)).replace("PLAIN", str(plain)),
        ],
        env={**env, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.partition("SAID")[2])
    return found


@pytest.mark.slow  # imports everything in a fresh process
@pytest.mark.ci
def test_private_hub_contacts_no_other_host(
    published: None, client_env: Callable[..., dict[str, str]]
) -> None:
    hosts, _ = everything(client_env("reader"), guarded=True, plain=False)
    assert hosts == ["127.0.0.1"]


@pytest.mark.slow  # importing evaluate takes most of it
@pytest.mark.ci
def test_plain_libraries_contact_no_other_host(
    published: None, client_env: Callable[..., dict[str, str]]
) -> None:
    hosts, score = everything(client_env("reader"), guarded=True)
    assert hosts == ["127.0.0.1"]
    assert score == pytest.approx(5 / 6)


@pytest.mark.slow
def test_unconfigured_libraries_contact_other_hosts(
    published: None, client_env: Callable[..., dict[str, str]]
) -> None:
    hosts, _ = everything(client_env("reader"), guarded=False)
    assert len(hosts) > 1, "they no longer do: `environment.QUIET` can be shorter"


@pytest.mark.slow
@pytest.mark.ci
def test_offline_mode_uses_cached_data_without_requests(
    published: None, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_splits("lab/wbc-lab-a@v1")
    model = load_classifier("lab/wbc-vit@v1").revision
    hub.log.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for domain, before in zip(load_splits("lab/wbc-lab-a@v1"), first, strict=True):
        assert domain.fingerprint == before.fingerprint and domain.revision == before.revision
    assert load_classifier("lab/wbc-vit@v1").revision == model
    with pytest.raises(ValueError, match="not in the local cache, and HF_HUB_OFFLINE is set"):
        load_split("lab/wbc-lab-b", "train")
    assert not hub.log


def test_hub_failure_is_an_error_and_not_a_cache_lookup(
    published: None, hub: Any, log_in: Callable[[str | None], None]
) -> None:
    load_split("lab/wbc-lab-a", "train")
    hub.faults.answer("GET", "/api/datasets/lab/wbc-lab-a", 503, times=99)
    with pytest.raises(ValueError, match=r"answers 503 .*; try again later"):
        load_split("lab/wbc-lab-a", "train")
    hub.faults.clear()
    hub.faults.cut_at(0, dead=True)
    with pytest.raises(ValueError, match=r"cannot be reached .* HF_HUB_OFFLINE=1 to use what was"):
        load_split("lab/wbc-lab-a", "train")
    hub.faults.clear()
    log_in("bob")
    with pytest.raises(ValueError, match="is private and your token has no access"):
        load_split("lab/wbc-lab-a", "train")


def test_cache_that_cannot_be_written_is_not_a_network_error(
    published: None, hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"the cache .*file cannot be written .* set HF_HOME"):
        load_split("lab/wbc-lab-a", "train")

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ValueError, match=r"the cache .* free some space there") as caught:
        load_split("lab/wbc-lab-a", "train")
    assert "network" not in str(caught.value)


def test_reason_for_denied_access_is_reported(
    published: None, log_in: Callable[[str | None], None]
) -> None:
    for who, ref, message in (
        ("bob", "lab/wbc-lab-a", "it does not exist at http.* or is private and your token"),
        (None, "lab/wbc-lab-a", "it does not exist at http.* or is private and your token"),
        ("nobody", "lab/wbc-lab-a", "rejects the token; log in again"),
        ("alice", "lab/wbc-lab-a@v9", "it has no revision v9; check its tags"),
    ):
        log_in(who)
        with pytest.raises(ValueError, match=message):
            load_split(ref, "train")


def test_private_endpoint_disables_telemetry_unless_set() -> None:
    environ = {"HF_ENDPOINT": " https://hub.hospital.org/ ", "HF_HUB_DISABLE_TELEMETRY": "0"}
    keep_within(environ)
    assert environ["HF_ENDPOINT"] == "https://hub.hospital.org"
    assert environ["HF_HUB_DISABLE_TELEMETRY"] == "0"
    assert environ["HF_UPDATE_DOWNLOAD_COUNTS"] == "0"
    assert environ["GRADIO_ANALYTICS_ENABLED"] == "False"


@pytest.mark.parametrize("endpoint", [None, PUBLIC, f"{PUBLIC}/"])
def test_public_hub_changes_no_variable(endpoint: str | None) -> None:
    environ = {} if endpoint is None else {"HF_ENDPOINT": endpoint}
    keep_within(environ)
    assert set(environ) <= {"HF_ENDPOINT"}


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("ACCELERATE_LOG_LEVEL", "loud", "DEBUG"),
        ("ACCELERATE_USE_CPU", "garbage", "true"),
        ("GOMP_CPU_AFFINITY", "xx", "0-3 5"),
        ("GRADIO_NODE_NUM_PORTS", "many", "3"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc", "10"),
        ("LOKY_MAX_DEPTH", "abc", "2"),
        ("PYTORCH_ALLOC_CONF", "garbage", "expandable_segments:True"),
        (
            "PYTORCH_CUDA_ALLOC_CONF",
            "backend",
            "roundup_power2_divisions:[256:1,>:4],garbage_collection_threshold:0.8",
        ),
        ("PYTORCH_JIT", "garbage", "0"),
        ("SKLEARN_WORKING_MEMORY", "1G", "1024"),
        ("TORCHINDUCTOR_COMPILE_THREADS", "abc", "2"),
        ("TORCH_DISTRIBUTED_DEBUG", "loud", "detail"),
    ],
)
def test_values_that_a_library_cannot_read_are_named(name: str, bad: str, good: str) -> None:
    keep_within({name: good})
    with pytest.raises(ValueError, match=rf"{name} is '{bad}'"):
        keep_within({name: bad})
    environ = {name: " "}
    keep_within(environ)
    assert name not in environ


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "value"),
    [("TORCH_LOGS", "garbage"), ("PYTORCH_ALLOC_CONF", "garbage"), ("OMP_NUM_THREADS", "abc"),
     ("MKL_NUM_THREADS", "-1"), ("TRANSFORMERS_VERBOSITY", "loud")],
)  # fmt: skip
def test_any_value_ends_in_words_or_works(name: str, value: str, tmp_path: Path) -> None:
    code = "import sys; from hf_wbc.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["evaluate", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, name: value},
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{name} is " in done.stderr or str(tmp_path) in done.stderr


def test_offline_mode_is_passed_to_libraries() -> None:
    environ = {"HF_HUB_OFFLINE": "1"}
    keep_within(environ)
    assert environ["HF_EVALUATE_OFFLINE"] == environ["HF_DATASETS_OFFLINE"] == "1"


def test_certificate_is_passed_to_libraries_and_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    environ = {"SSL_CERT_FILE": str(file)}
    keep_within(environ)
    assert environ["REQUESTS_CA_BUNDLE"] == str(file)
    with pytest.raises(
        ValueError, match=r"SSL_CERT_FILE is .*none.pem, which does not exist; give"
    ):
        keep_within({"SSL_CERT_FILE": str(tmp_path / "none.pem")})


def test_invalid_endpoint_stops_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hub.hospital.org")
    assert main(["methods"]) == 1
    assert "HF_ENDPOINT is 'hub.hospital.org'; give a URL" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["HF_HUB_ETAG_TIMEOUT", "GRADIO_SERVER_PORT"])
def test_non_numeric_variable_is_reported(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 'ten', which is no number"):
        keep_within({name: "ten"})
    environ = {name: "10"}
    keep_within(environ)
    assert environ == {name: "10"}
    keep_within(empty := {name: ""})
    assert empty == {}, "the libraries could not convert it"

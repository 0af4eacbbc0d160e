"""Visitors whose images were deleted are told so, whatever they press."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

import numpy as np

from hf_wbc.app.downloads import write_csv_download
from hf_wbc.app.limits import LIMITS
from hf_wbc.app.many_cells import ManyCells, Shown
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.uploads import UploadedImage, Uploads


@pytest.mark.parametrize("press", ["save", "download", "scale"])
def test_expired_visitor_is_told_and_next_slide_is_new(press: str) -> None:
    now = [0.0]
    sessions = Sessions(LIMITS, lambda: now[0])
    cell = UploadedImage("a.png", np.zeros((9, 9, 3), np.uint8))
    sessions.change("me", lambda slide: slide.added(Uploads((cell,)), LIMITS))
    now[0] = LIMITS.idle_seconds
    sessions.sweep()
    rule = SimpleNamespace(needs_images=False)
    predictor = SimpleNamespace(pretrained=SimpleNamespace(rule=rule))
    tab = ManyCells(Service(PageModel.loaded("model", cast(Any, predictor))), sessions)
    request = cast(Any, SimpleNamespace(session_hash="me"))
    if press == "save":
        shown = tab.save(request, cast(Any, SimpleNamespace(sample=1, revision=1, labels={"1": 0})))
    elif press == "download":
        kept, *rest = tab.keep(write_csv_download)({}, request)
        shown = Shown(*rest)
        assert kept is None
    else:
        shown = tab.again("0.1", request)
    assert "images and corrections were deleted" in shown.status and "30 minutes" in shown.status
    assert shown.count == shown.cells == ""
    assert sessions.slide("me").every == ()

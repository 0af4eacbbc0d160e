"""An assistant finds the page's tools by the Model Context Protocol, where that is switched on."""

import asyncio
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from hf_wbc.cli.main import main
from hf_wbc.shipped import shipped

HF_WBC = (sys.executable, "-c", "import sys; from hf_wbc.cli.main import main; sys.exit(main())")
ROUTE = "/gradio_api/mcp/"


@pytest.mark.skipif(find_spec("mcp") is not None, reason="the package mcp is installed")
def test_missing_package_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio", reason="the page needs the extra app")
    assert main(["demo", "--mcp"]) == 1
    assert "gradio[mcp]" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ci
def test_mcp_is_off_by_default(served: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(served.url + ROUTE, timeout=60)
    assert refused.value.code in (403, 404, 405)


@pytest.mark.slow
@pytest.mark.ci
def test_client_lists_tools_and_calls_about(serve: Callable[..., Any]) -> None:
    pytest.importorskip("mcp", reason="the package mcp is not installed")
    toy = str(shipped("spaces/wbc/toy_model"))
    served = serve(*HF_WBC, "demo", "--model", toy, "--port", "0", "--mcp")
    names, answer = asyncio.run(ask(served.url + ROUTE))
    (about,) = [name for name in names if name.endswith("about")]
    assert any(name.endswith("classify") for name in names)
    assert "research use, not a medical device" in answer
    assert about and not served.reached.exists()


async def ask(url: str) -> tuple[list[str], str]:
    """List the tools of a server, and call the one that describes the model."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with (
        streamablehttp_client(url) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        names = [tool.name for tool in (await session.list_tools()).tools]
        (about,) = [name for name in names if name.endswith("about")]
        found = await session.call_tool(about, {})
        return names, found.content[0].text

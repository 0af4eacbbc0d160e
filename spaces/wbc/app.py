"""`hf-wbc demo` in a Space: the model that HF_WBC_MODEL names, or the one beside this file."""

import os
from pathlib import Path

from hf_wbc.cli.demo import demo

SHIPPED = Path(__file__).parent / "model"

if __name__ == "__main__":
    demo(
        model=os.environ.get("HF_WBC_MODEL", str(SHIPPED)),
        compare=tuple(os.environ.get("HF_WBC_COMPARE", "").split()),
        host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        mcp=os.environ.get("HF_WBC_MCP") == "1",
    )

"""Colours and type of the page; every font is one that the reader's machine has."""

from typing import Any

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "Consolas", "Menlo", "monospace")


def theme() -> Any:
    """Gradio's soft theme without a font that is fetched."""
    import gradio as gr

    return gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO).set(
        button_primary_background_fill="#0757a8",
        button_primary_background_fill_hover="#06478a",
        button_primary_background_fill_dark="#0b66c3",
        button_primary_text_color="white",
    )

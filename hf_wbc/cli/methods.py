"""`hf-wbc methods`: the training methods, what they need, and their limitations."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hf_wbc.escape import print_plain

if TYPE_CHECKING:
    from hf_wbc.adaptation import Method


def methods(
    name: Annotated[str, tyro.conf.Positional] = "",
    format: Literal["table", "markdown", "json"] = "table",
) -> None:
    """List the training methods, or show one in detail.

    Example: hf-wbc methods dann

    Args:
        name: A method to show in detail: what it needs, its limitations and its options.
        format: Format of the list.
    """
    from hf_wbc.adaptation import load_method, method_names

    if name:
        describe(load_method(name))
        return
    rows = [facts(load_method(each)) for each in method_names()]
    if format == "json":
        import json

        print_plain(json.dumps(rows, indent=2))
    elif format == "markdown":
        print("| method | family | needs | paper | fails when |\n|---|---|---|---|---|")
        for row in rows:
            print_plain(f"| `{row['method']}` | {row['family']} | {', '.join(row['needs'])} |"
                  f" {row['paper']} | {row['limitations']} |")  # fmt: skip
    else:
        draw(rows)


def facts(method: "type[Method]") -> dict[str, Any]:
    """A method's row of the list."""
    needs = method.needs
    requirements = (
        (method.sees_target(), "target"),
        (needs.strong, "two views"),
        (needs.index, "index"),
        (needs.images, "images"),
        (needs.num_sources > 1, f"{needs.num_sources} sources"),
        (method.adapt_passes > 0, "second phase"),
    )
    return {
        "method": method.name(),
        "family": method.family,
        "summary": (method.__doc__ or "").partition("\n")[0],
        "needs": [word for needed, word in requirements if needed],
        "paper": method.paper,
        "limitations": method.limitations,
    }


def draw(rows: list[dict[str, Any]]) -> None:
    """Print name and one-line summary of every method, grouped by family."""
    column = max(len(row["method"]) for row in rows) + 4
    for family in dict.fromkeys(row["family"] for row in rows):
        print_plain(f"{family}:")
        for row in rows:
            if row["family"] == family:
                print_plain(hanging(f"  {row['method']}", row["summary"], column))
        print()
    print("hf-wbc methods NAME shows what a method needs, its limitations and its options")


def describe(method: "type[Method]") -> None:
    """Print a method's idea, facts, options and configuration overrides."""
    import dataclasses
    import sys

    from hf_wbc.cli.command_help import field_texts

    row = facts(method)
    idea = f"{row['method']}: {(sys.modules[method.__module__].__doc__ or '').strip()}"
    print_plain(*(reflow(paragraph) + "\n" for paragraph in idea.split("\n\n")), sep="\n")
    lines = [
        ("family", row["family"]),
        ("needs", ", ".join(row["needs"]) or "labeled sources only"),
        ("paper", row["paper"]),
        ("fails when", row["limitations"]),
    ]
    for name, value in method.config_overrides.items():
        inner = value.items() if isinstance(value, dict) else ()
        lines.append(("sets", f"{name} = {', '.join(f'{k} {v}' for k, v in inner) or value}"))
    texts = field_texts(method.Options)
    lines += [
        ("option", f"{option.name} = {option.default}  {texts.get(option.name, '')}")
        for option in dataclasses.fields(method.Options)
    ]
    print_plain("\n".join(hanging(name, text, 12) for name, text in lines))
    if texts:
        print_plain(f"\n--method {row['method']} --method-options NAME VALUE ... sets options")


def reflow(paragraph: str) -> str:
    """Return a paragraph wrapped at 80 columns; one with indented lines stays as it is."""
    if any(line.startswith((" ", "- ")) for line in paragraph.splitlines()):
        return paragraph
    return hanging("", " ".join(paragraph.split()), 0)


def hanging(name: str, text: str, column: int) -> str:
    """Return a name and its text, wrapped at 80 columns without breaking a word."""
    import textwrap

    return textwrap.fill(
        name.ljust(column) + text, 80, subsequent_indent=" " * column,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip

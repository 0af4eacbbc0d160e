"""`hf-wbc methods`: what there is to adapt with, what it needs, and when it fails."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from hf_wbc.adaptation import Method


def methods(
    name: Annotated[str, tyro.conf.Positional] = "",
    format: Literal["table", "markdown", "json"] = "table",
) -> None:
    """List the training methods, or say all that is known of one.

    Args:
        name: A method, to see its idea and its options; all are listed without.
        format: How the list is printed.
    """
    from hf_wbc.adaptation import load_method, method_names

    if name:
        describe(load_method(name))
        return
    rows = [facts(load_method(each)) for each in method_names()]
    if format == "json":
        import json

        print(json.dumps(rows, indent=2))
    elif format == "markdown":
        print("| method | family | needs | paper | fails when |\n|---|---|---|---|---|")
        for row in rows:
            print(f"| `{row['method']}` | {row['family']} | {', '.join(row['needs'])} |"
                  f" {row['paper']} | {row['limitations']} |")  # fmt: skip
    else:
        draw(rows)


def facts(method: "type[Method]") -> dict[str, Any]:
    """A method's row of the list."""
    needs = method.needs
    words = (
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
        "needs": [word for needed, word in words if needed],
        "paper": method.paper,
        "limitations": method.limitations,
    }


def draw(rows: list[dict[str, Any]]) -> None:
    """The list as a table as wide as the terminal, family by family."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("needs", "paper", "fails when"):
        table.add_column(heading)
    for family in dict.fromkeys(row["family"] for row in rows):
        table.add_section()
        table.add_row(f"[bold]{family}[/bold]")
        for row in rows:
            if row["family"] == family:
                needs = ", ".join(row["needs"])
                table.add_row(f"  {row['method']}", needs, row["paper"], row["limitations"])
    console = Console()
    console.print(table)
    console.print("hf-wbc methods NAME tells a method's idea and options", highlight=False)


def describe(method: "type[Method]") -> None:
    """A method's idea, facts, options and recipe."""
    import dataclasses
    import sys

    row = facts(method)
    print(f"{row['method']}: {(sys.modules[method.__module__].__doc__ or '').strip()}\n")
    print(f"family      {row['family']}")
    print(f"needs       {', '.join(row['needs']) or 'labelled sources only'}")
    print(f"paper       {row['paper']}")
    print(f"fails when  {row['limitations']}")
    for field in method.config_overrides:
        print(f"sets        {field} = {method.config_overrides[field]}")
    documented = field_docstrings(method.Options)
    for option in dataclasses.fields(method.Options):
        meaning = documented.get(option.name, "")
        print(f"option      {option.name} = {option.default}  {meaning}")
    if documented:
        print(f"\n--method {row['method']} --method-options NAME VALUE ... sets options")


def field_docstrings(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass and of what it inherits from, on one line each."""
    import ast
    import dataclasses
    import inspect
    import itertools
    import textwrap

    found = {}
    for part in reversed([each for each in kind.__mro__ if dataclasses.is_dataclass(each)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return found

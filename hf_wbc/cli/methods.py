"""`hf-wbc methods`: the training methods, what they need, and their limitations."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

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
        "summary": (method.__doc__ or "").partition("\n")[0],
        "needs": [word for needed, word in words if needed],
        "paper": method.paper,
        "limitations": method.limitations,
    }


def draw(rows: list[dict[str, Any]]) -> None:
    """Print name and one-line summary of every method, grouped by family."""
    import textwrap

    width = max(len(row["method"]) for row in rows) + 4
    for family in dict.fromkeys(row["family"] for row in rows):
        print(f"{family}:")
        for row in rows:
            if row["family"] == family:
                text = textwrap.fill(row["summary"], 80, initial_indent=" " * width,
                                     subsequent_indent=" " * width)  # fmt: skip
                print(f"  {row['method']:<{width - 2}}{text[width:]}")
        print()
    print("hf-wbc methods NAME shows what a method needs, its limitations and its options")


def describe(method: "type[Method]") -> None:
    """Print a method's idea, facts, options and configuration overrides."""
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

"""Sections as Markdown, with GitHub's tables."""

from collections.abc import Iterable

from hf_wbc.study.words import Section, Strong, Table


def markdown(sections: Iterable[Section]) -> str:
    """One page."""
    return "\n\n".join(block for section in sections for block in _blocks(section)) + "\n"


def _blocks(section: Section) -> list[str]:
    blocks = [f"{'#' * section.level} {_escaped(section.title)}"]
    blocks += [_escaped(words) for words in section.paragraphs]
    return blocks if section.table is None else [*blocks, markdown_table(section.table)]


def markdown_table(table: Table) -> str:
    """GitHub's table, numbers to the right."""
    num_numbers = len(table.headings) - table.num_words
    rule = ["---"] * table.num_words + ["---:"] * num_numbers
    lines = [table.headings, rule, *table.cells]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    plain = _escaped(text)
    return f"**{plain}**" if isinstance(text, Strong) else plain


def _escaped(text: str) -> str:
    """What stands for itself, in a table too; backticks stay."""
    for sign in "\\|*_<":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())

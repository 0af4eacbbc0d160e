"""Sections as LaTeX: what a paper takes with `\\input`; it needs booktabs and longtable."""

from collections.abc import Iterable

from hf_wbc.study.words import Section, Strong, Table

_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "→": r"$\rightarrow$", "−": "$-$", "±": r"$\pm$", "†": r"\dag{}", "‡": r"\ddag{}",
    "Δ": r"$\Delta$", "<": "$<$", ">": "$>$",
}  # fmt: skip
_LEVELS = ("section", "subsection", "subsubsection")
_START = "% Made by `hf-wbc compare` from run records; needs \\usepackage{booktabs,longtable}."


def latex(sections: Iterable[Section]) -> str:
    """What goes between \\begin{document} and \\end{document}."""
    blocks = (block for section in sections for block in _blocks(section))
    return "\n\n".join([_START, *blocks]) + "\n"


def _blocks(section: Section) -> list[str]:
    blocks = [f"\\{_LEVELS[section.level - 1]}*{{{_escaped(section.title)}}}"]
    blocks += [_escaped(words) for words in section.paragraphs]
    return blocks if section.table is None else [*blocks, _table(section.table)]


def _table(table: Table) -> str:
    columns = "l" * table.num_words + "r" * (len(table.headings) - table.num_words)
    return "\n".join(
        [
            r"\begingroup\scriptsize\setlength{\tabcolsep}{3pt}",
            f"\\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            _line(table.headings),
            r"\midrule\endhead",
            r"\bottomrule\endfoot",
            *map(_line, table.cells),
            r"\end{longtable}",
            r"\endgroup",
        ]
    )


def _line(cells: Iterable[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    plain = _escaped(text)
    return f"\\textbf{{{plain}}}" if isinstance(text, Strong) else plain


def _escaped(text: str) -> str:
    """What stands for itself; a leading bracket would be an argument of the line before."""
    plain = "".join(_SIGNS.get(sign, sign) for sign in " ".join(text.split()))
    return f"{{}}{plain}" if plain.startswith("[") else plain

r"""The leaderboard as LaTeX: tables of booktabs, in which nothing but our own commands is one.

Whatever a model or a task is called becomes its letters: \, {, }, $, &, #, %, _, ^, ~ and whatever else TeX acts on is
escaped, [ and * too, which a line's end would take for its argument, and what no font has is written as its code.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.significance import BestCells
from avar_eval.leaderboard.table import NUMBER_HEADINGS, TEXT_HEADINGS, cells
from avar_eval.leaderboard.wide import WideTable
from avar_eval.leaderboard.wide_text import caption, line_name, wide_cells
from avar_eval.number_format import in_line
from avar_eval.terminal import inert

_ESCAPES: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "-": "{-}",
    "–": r"\textendash{}",
    "−": r"\textminus{}",
    "±": r"\textpm{}",
    "×": r"\texttimes{}",
    "÷": r"\textdiv{}",
    "†": r"\textdagger{}",
    "!": "{!}",
    "?": "{?}",
    ",": "{,}",
}
"""Two hyphens, and ! or ? before a grave accent, would be one sign: each stands in a group of its own."""
_PLAIN: Final = re.compile(r"[ -~À-ÖØ-öø-ÿ]")
PREAMBLE: Final = r"% \usepackage{booktabs,graphicx,textcomp} and \usepackage[T1]{fontenc}"


def latex(text: str) -> str:
    """The text as LaTeX that prints it, on one line."""
    return "".join(
        _ESCAPES.get(sign) or (sign if _PLAIN.fullmatch(sign) else f"{{[}}U+{ord(sign):04X}{{]}}")
        for sign in inert(" ".join(text.split()))
    )


def long_latex(rows: Iterable[Row]) -> str:
    """A row each task of a run, with the columns of the Markdown table."""
    headings = (*TEXT_HEADINGS, *NUMBER_HEADINGS, "numbers")
    body = [[latex(in_line(cell)) for cell in cells(row)] for row in rows]
    columns = "l" * len(TEXT_HEADINGS) + "r" * len(NUMBER_HEADINGS) + "l"
    return _table(columns, [latex(heading) for heading in headings], body, "Strict scores with 95 % intervals.")


def wide_latex(table: WideTable, best: BestCells, source: str) -> str:
    r"""A row each model, the paper's and the difference below it in small type; \textbf where `best` allows it."""
    places = {id(line): place for place, line in enumerate(table.lines)}
    body = []
    for line, kind, shown in wide_cells(table):
        escaped = [latex(cell) for cell in shown]
        name = latex(line_name(line, kind, source))
        if kind == "ours":
            for number, column in enumerate(table.columns):
                if (places[id(line)], column) in best.best:
                    escaped[number] = rf"\textbf{{{escaped[number]}}}"
            body.append([name, *escaped])
        else:
            body.append([rf"\quad\footnotesize {name}", *(rf"\footnotesize {cell}" for cell in escaped)])
    headings = [latex(heading) for heading in ("model", *table.columns, "average", "VAS")]
    return _table("l" + "r" * (len(headings) - 1), headings, body, caption(table, best))


def _table(columns: str, headings: Sequence[str], body: Sequence[Sequence[str]], said: str) -> str:
    """booktabs' three rules; \\resizebox keeps the table within the text's width."""
    rows = "".join(rf"{' & '.join(row)} \\" + "\n" for row in body)
    return (
        f"{PREAMBLE}\n"
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{latex(said)}}}\n"
        "\\resizebox{\\textwidth}{!}{%\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(headings)} \\\\\n\\midrule\n{rows}\\bottomrule\n"
        "\\end{tabular}}\n\\end{table}\n"
    )

"""A strict reader of the LaTeX that an export writes: what it does not know is an error, as it is for TeX."""

import re

_TEXT = {
    "textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<", "textgreater": ">",
    "textbar": "|", "textquotedbl": '"', "textasciigrave": "`", "textquotesingle": "'", "textendash": "–",
    "textminus": "−", "textpm": "±", "texttimes": "×", "textdiv": "÷", "textdagger": "†",
}  # fmt: skip
_ESCAPED = frozenset("{}$&#%_")
_RULES = frozenset(("toprule", "midrule", "bottomrule"))
_QUIET = frozenset(("centering", "quad", "footnotesize"))
_TOKEN = re.compile(r"\\([a-zA-Z]+) ?|\\(.)|(.)", re.DOTALL)
_LIGATURES = re.compile(r"--|``|''|!`|\?`|,,|<<|>>")


class TexError(Exception):
    """TeX would stop here, or print something else than the letters."""


def read_table(text: str) -> tuple[str, list[list[str]], set[tuple[int, int]]]:
    """The caption, the cells of the table's rows as printed, and the places that are bold. Raises TexError."""
    lines = text.splitlines()
    if not lines[0].startswith("%") or any("%" in re.sub(r"\\%", "", line[:-1]) for line in lines[1:]):
        raise TexError("a comment swallows the rest of its line")
    body = "\n".join(lines[1:])
    found = re.fullmatch(
        r"\\begin\{table\}\n\\centering\n\\caption\{(.*)\}\n\\resizebox\{\\textwidth\}\{!\}\{%\n"
        r"\\begin\{tabular\}\{([lr]+)\}\n(.*)\\end\{tabular\}\}\n\\end\{table\}",
        body,
        re.DOTALL,
    )
    if not found:
        raise TexError("it is not one table")
    caption, columns, inner = found.groups()
    rows: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for line in inner.splitlines():
        if line.removeprefix("\\") in _RULES:
            continue
        if not line.endswith(r" \\"):
            raise TexError(f"a row that does not end: {line!r}")
        cells = [_printed(cell) for cell in _split(line.removesuffix(r" \\"))]
        if len(cells) != len(columns):
            raise TexError(f"{len(cells)} cells in {len(columns)} columns: {line!r}")
        bold |= {(len(rows), place) for place, (_, is_bold) in enumerate(cells) if is_bold}
        rows.append([cell for cell, _ in cells])
    return _printed(caption)[0], rows, bold


def _split(line: str) -> list[str]:
    """At & that are not escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line)]


def _printed(cell: str) -> tuple[str, bool]:
    """The letters that TeX prints, and whether they are bold. Raises TexError."""
    if _LIGATURES.search(re.sub(r"\\[a-zA-Z]+\{\}", "", cell)):
        raise TexError(f"two signs that become one: {cell!r}")
    bold = cell.startswith(r"\textbf{")
    text, depth, printed = cell.removeprefix(r"\textbf"), 0, ""
    for command, escaped, sign in _TOKEN.findall(text):
        if command in _TEXT:
            printed += _TEXT[command]
        elif command in _QUIET:
            continue
        elif command or (escaped and escaped not in _ESCAPED):
            raise TexError(f"the command \\{command or escaped} in {cell!r}")
        elif escaped:
            printed += escaped
        elif sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth < 0:
                raise TexError(f"a brace is closed that is not open: {cell!r}")
        elif sign in "$&#%_^~\\" or (sign in "[*" and depth == 0):
            raise TexError(f"{sign} acts in {cell!r}")
        elif not (sign.isascii() and sign.isprintable()) and not "À" <= sign <= "ÿ":
            raise TexError(f"no font has {sign!r}")
        else:
            printed += sign
    if depth:
        raise TexError(f"a brace stays open: {cell!r}")
    return printed, bold

"""The JSON in the page that its script unpacks (`script/contents.js`)."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any, Final

from avar_eval.leaderboard.curve import checkpoint_rows
from avar_eval.leaderboard.page.correlations import Picture, correlations, printed_picture
from avar_eval.leaderboard.page.measures import MEASURES, PLACES
from avar_eval.leaderboard.page.rows import (
    PAPER_AVERAGE,
    Line,
    PageRow,
    add_printed,
    own_lines,
    own_rows,
    paper_columns,
)
from avar_eval.leaderboard.paper import Paper
from avar_eval.leaderboard.ranking import ComparableRows, ranked, told
from avar_eval.leaderboard.row import Row
from avar_eval.tasks.groups import groups
from avar_eval.terminal import inert

LEGEND: Final = (
    "Score is by the strict verdict, official by the benchmark’s published rule; below each number its 95 % interval. "
    "VAS (Eq. 2) is attention on image over system tokens: where a model looks, no proof that it needs to. A rank, as "
    "1/5, is among rows that were asked alike, bold the first of several. A click on a number opens how it was asked."
)


class Strings:
    """Texts, each once, safe to show; rows name them by their place."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str | None) -> int | None:
        """Where the text stands; None for none."""
        return None if text is None else self._places.setdefault(text, len(self._places))

    def listed(self) -> list[str]:
        """All of them, in their order."""
        return list(map(inert, self._places))


def page_contents(
    rows: Sequence[Row], published: Paper | None, viewers: Mapping[str, tuple[str, int]]
) -> dict[str, Any]:
    """All that the page shows. published: the paper, or None to leave it out. viewers: as of `viewer_links`."""
    shown = own_rows(rows)
    lines, alike = own_lines(shown), ranked(rows)
    pictures = correlations(shown, alike)
    if published is not None:
        printed = add_printed(published, shown)
        lines += printed
        pictures.append(printed_picture(published, shown, printed))
    strings, tasks = Strings(), _tasks(shown, [PAPER_AVERAGE, *paper_columns(published)] if published else [])
    labels = list(dict.fromkeys(label for one in shown for label in one.card))
    return {
        "summary": _summary(rows),
        "measures": _measures(shown),
        "tasks": [{"name": inert(task), "about": about} for task, about in tasks.items()],
        "card": labels,
        "rows": _packed_rows(shown, _ranks(alike), list(tasks), labels, strings),
        "lines": [_packed_line(line, strings) for line in lines],
        "curves": [[strings.place(run), points] for run, points in _curves(shown)],
        "correlations": [_packed_picture(picture) for picture in pictures],
        "viewers": dict(viewers),
        "source": published.source if published else "",
        "legend": LEGEND,
        "groups": _groups(alike),
        "strings": strings.listed(),
    }


def _summary(rows: Sequence[Row]) -> str:
    """A sentence without anybody's names."""
    if not rows:
        return "No run is in this leaderboard yet: every finished run of avar-eval adds its rows."
    counts = (
        (len({row.run_id for row in rows}), "run"),
        (len({row.model for row in rows}), "model"),
        (len({row.task for row in rows}), "benchmark"),
    )
    runs, models, benchmarks = (f"{number:,} {noun}{'' if number == 1 else 's'}" for number, noun in counts)
    return f"{runs} of {models} on {benchmarks}: scores with their intervals, and where the models look."


def _groups(alike: Sequence[ComparableRows]) -> list[tuple[str, str]]:
    """What rows that were asked alike are called in their task, "" the first of them, and what sets them apart."""
    numbers: Counter[str] = Counter()
    named = []
    for group in alike:
        named.append((_letters(numbers[group.task]), inert(told(group.differs))))
        numbers[group.task] += 1
    return named


def _letters(number: int) -> str:
    """ "" of 0, then a, b, … z, aa, …"""
    letters = ""
    while number:
        number, letter = divmod(number - 1, len(ascii_lowercase))
        letters = ascii_lowercase[letter] + letters
    return letters


def _ranks(alike: Sequence[ComparableRows]) -> dict[int, tuple[int | None, int, int]]:
    """By a row's id(): its rank, of how many, and the place of its group."""
    found: dict[int, tuple[int | None, int, int]] = {}
    for place, group in enumerate(alike):
        of = sum(one.rank is not None for one in group.rows)
        found |= {id(one.row): (one.rank, of, place) for one in group.rows}
    return found


def _packed_rows(
    shown: Sequence[PageRow],
    ranks: Mapping[int, tuple[int | None, int, int]],
    tasks: list[str],
    labels: list[str],
    strings: Strings,
) -> list[list[Any]]:
    places = {task: place for place, task in enumerate(tasks)}
    return [
        [
            strings.place(one.own.run_id if one.own else None),
            places[one.task],
            one.cells,
            [strings.place(one.card.get(label)) for label in labels],
            *ranks.get(id(one.own), (None, None, None)),
            one.paper,
        ]
        for one in shown
    ]


def _packed_line(line: Line, strings: Strings) -> list[Any]:
    return [
        strings.place(line.model),
        strings.place(line.detail),
        line.steered,
        strings.place(line.backend),
        line.verified,
        line.printed,
        line.rows,
    ]


def _packed_picture(of: Picture) -> dict[str, Any]:
    low, high = of.found.ci95 or (None, None)
    numbers = {"r": of.found.r, "low": low, "high": high, "p": of.found.p}
    return {
        "title": inert(of.title),
        "x": of.x,
        "y": PLACES["score"],
        "points": of.points,
        "notes": of.notes,
        **numbers,
    }


def _tasks(shown: Sequence[PageRow], printed: Sequence[str]) -> dict[str, str | None]:
    """The columns with what there is to say of them: those with the most rows of ours first, then the paper's."""
    counts: Counter[str] = Counter()
    score_names: dict[str, set[str]] = defaultdict(set)
    for one in shown:
        if one.own is not None:
            counts[one.task] += 1
            score_names[one.task].add(one.own.score_name)
    names = [*sorted(counts, key=lambda task: (-counts[task], task)), *printed]
    return {task: _about(task, score_names[task]) for task in dict.fromkeys(names)}


def _about(task: str, score_names: set[str]) -> str | None:
    group = groups().get(task)
    if group is not None and group.mean:
        return group.description
    named = ", ".join(sorted(score_names - {"accuracy"}))
    return inert(f"its score: {named}") if named else None


def _measures(shown: Sequence[PageRow]) -> list[dict[str, Any]]:
    """All measures, with what the script needs of each; `first`: shown before anybody chooses."""
    known = {place for one in shown for place in one.cells}
    decided = "visual_gain" if PLACES["visual_gain"] in known else "visual_dependence"
    first = {"score", "vas", "ratio_of_sums", decided}
    names = ("key", "label", "about", "unit", "suffix", "kind", "curve")
    return [
        {name: getattr(measure, name) for name in names}
        | {"known": place in known, "first": place in known and measure.key in first}
        for place, measure in enumerate(MEASURES)
    ]


def _curves(shown: Sequence[PageRow]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Each training with (step, place of the row) of its checkpoints, by benchmark and step."""
    of_runs: dict[str, list[Row]] = defaultdict(list)
    places: dict[int, int] = {}
    for place, one in enumerate(shown):
        if one.own is not None and one.own.training_run is not None:
            of_runs[one.own.training_run].append(one.own)
            places[id(one.own)] = place
    return [
        (run, [(row.training_step or 0, places[id(row)]) for row in checkpoint_rows(of, run)])
        for run, of in sorted(of_runs.items())
    ]

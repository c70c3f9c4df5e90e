"""Tables of the terminal are whole at every width: no column is lost, no number cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_tables import WIDTHS, check_whole, rendered

from avar_eval.number_format import UNKNOWN, percent, score
from avar_eval.tables import Column, FittedTable

NAME = "some_organisation/a-model-with-a-rather-long-name-7b@0123abc"


def run_table(*names: str) -> FittedTable:
    headings = ("n", "accuracy %", "official %", "VAS", "VAS (response)", "truncated %", "unparsed %")
    table = FittedTable([Column("task", text=True, key=True), *map(Column, headings)], title="avar-tiny")
    for name in names:
        share, mean = percent(0.713, (0.65, 0.772)), f"{score(7.516, (6.1, 9.03))}\npanoramic"
        table.add_row(name, "10,000", share, share, mean, score(123456, (99.4, 1e7)), percent(0, (0, 0.04)), UNKNOWN)
    return table


@pytest.mark.parametrize("width", [*WIDTHS, 41, 53, 67, 79, 133])
def test_a_table_is_whole_at_this_width(width: int) -> None:
    check_whole(run_table("shapes", NAME), width)


def test_columns_stand_beside_each_other_as_far_as_there_is_room_for_them() -> None:
    table = run_table("shapes")
    wide, medium, narrow = (rendered(table, width).splitlines() for width in (200, 100, 40))
    assert len(wide) == 3  # title, heading, the row
    assert "71.3 [65.0–77.2]" in wide[-1]
    assert "7.52 [6.10–9.03] panoramic" in wide[-1]
    assert medium[1].split() == ["VAS", "truncated", "unparsed"]
    assert sum(line.startswith("shapes") for line in narrow) == 3  # as many blocks
    assert sum(line.startswith("task") for line in narrow) == 3


def test_many_columns_of_text_become_a_list_where_there_is_no_room() -> None:
    table = FittedTable([Column("model", text=True, key=True), *(Column(f"part {i}", text=True) for i in range(4))])
    table.add_row("avar-tiny", "one two three four five six", "", "[bold]seven[/bold]", "eight" * 12)
    table.add_row("second", "nine")
    text = check_whole(table, 40)
    assert text.splitlines()[0].strip() == "model: avar-tiny"
    assert "  part 0  one two three four five six" in text
    assert not any(line.startswith("  part 1") for line in text.splitlines())
    assert "[bold]seven[/bold]" in text


def test_sections_share_one_heading_and_its_columns() -> None:
    table = FittedTable([Column("model", text=True, key=True), Column("score %")])
    for task in ("shapes", "mathvista"):
        table.add_section(task)
        table.add_row(f"a model of {task}", percent(0.5, (0.4, 0.6)))
    lines = rendered(table, 80).splitlines()
    assert sum("score %" in line for line in lines) == 1
    assert len({line.index("50.0") for line in lines if "50.0" in line}) == 1
    assert [line.strip() for line in lines if line.strip() in ("shapes", "mathvista")] == ["shapes", "mathvista"]


WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30)
NUMBERS = st.lists(st.floats(0, 1e6).map(lambda value: score(value)), min_size=1, max_size=3).map("\n".join)


@given(
    headings=st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=9),
    data=st.data(),
    width=st.integers(40, 200),
)
def test_any_table_of_names_and_numbers_is_whole(headings: list[str], data: st.DataObject, width: int) -> None:
    table = FittedTable([Column("name", text=True, key=True), *map(Column, headings)])
    for _ in range(data.draw(st.integers(1, 4))):
        table.add_row(data.draw(WORDS), *(data.draw(NUMBERS) for _ in headings))
    check_whole(table, width)

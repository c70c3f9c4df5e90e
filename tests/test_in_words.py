"""Damaged lines, files and options are told in words that are neither pydantic's nor Python's."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from avar_eval.in_words import fault_in_words, in_words, problems_in_words
from avar_eval.user_files import parse_json, parse_yaml, read_text

Name = Annotated[str, Field(max_length=10, pattern="^[^\x00-\x1f]*$")]


class Inner(BaseModel):
    ids: list[int] = []
    share: Annotated[float, Field(ge=0, le=1)] = 0
    layers: Annotated[list[int], Field(min_length=1)] = [0]
    grader: list[Name] | Name = ""
    numbers: dict[Name, int | str] = {}

    @model_validator(mode="after")
    def _agree(self) -> "Inner":
        if len(self.ids) > 2:
            raise ValueError("ids are two at most")
        return self


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    key: Name
    kind: Literal["a", "b"] = "a"
    share: float = 0
    known: bool = True
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{2}$")] = "00"
    inner: Inner = Inner()


CASES: list[tuple[Any, str]] = [
    ({}, "it has no key"),
    ([], "it is an empty list, not an object"),
    ({"key": 5}, "key is 5, not a text"),
    ({"key": None}, "key is null, not a text"),
    ({"key": "a\x1b[31m"}, 'key is "a\\u001b[31m", not a text without control characters'),
    ({"key": "a" * 100}, f'key is "{"a" * 60}…", not a text of up to 10 letters'),
    ({"key": "", "id": "zz"}, 'id is "zz", not a text of the form ^[0-9a-f]{2}$'),
    ({"key": "", "kind": "c"}, "kind is \"c\", not 'a' or 'b'"),
    ({"key": "", "share": "x"}, 'share is "x", not a number'),
    ({"key": "", "share": float("inf")}, "share is Infinity, not a number"),
    ({"key": "", "known": 7}, "known is 7, not true or false"),
    ({"key": "", "inner": [1, 2]}, "inner is a list of 2, not an object"),
    ({"key": "", "inner": {"ids": {}}}, "inner.ids is an object, not a list"),
    ({"key": "", "inner": {"ids": [1.5]}}, "inner.ids.0 is 1.5, not a whole number"),
    ({"key": "", "inner": {"ids": [1, 2, 3]}}, "inner: ids are two at most"),
    ({"key": "", "inner": {"share": 1.5}}, "inner.share is 1.5, not 1 or less"),
    ({"key": "", "inner": {"share": -1}}, "inner.share is -1, not 0 or more"),
    ({"key": "", "inner": {"layers": []}}, "inner.layers has 0 entries, and 1 or more are needed"),
    ({"key": "", "inner": {"grader": 5}}, "inner.grader is 5, not a list or a text"),
    (
        {"key": "", "inner": {"numbers": {"str": []}}},
        "inner.numbers.str is an empty list, not a whole number or a text",
    ),
    ({"key": "", "inner": {"numbers": {"a\n": 1}}}, 'a key of inner.numbers is "a\\n", not a text without control'),
    ({"key": "", "more": 1}, "more is not a field of it"),
]


@pytest.mark.parametrize(("content", "words"), CASES, ids=[words for _, words in CASES])
def test_place_and_what_stands_there_and_what_should(content: Any, words: str) -> None:
    for validate in (lambda: Outer.model_validate(content), lambda: Outer.model_validate_json(json.dumps(content))):
        with pytest.raises(ValidationError) as raised:
            validate()
        assert in_words(raised.value).startswith(words)


def test_every_problem_is_told_once() -> None:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate({"kind": "c", "inner": {"grader": 5}})
    assert problems_in_words(raised.value) == [
        "it has no key",
        "kind is \"c\", not 'a' or 'b'",
        "inner.grader is 5, not a list or a text",
    ]


NOT_JSON = [
    ("", "it is empty"),
    (" \n", "it is empty"),
    ("nope", "it is no JSON: in column 1 stands nope where a value should"),
    ('{"a": 1', "it is no JSON: it breaks off"),
    ('{\n"a": "b', "it is no JSON: it breaks off in line 2"),
    ('{"a": 1,}', "it is no JSON: in column 9 stands } where a name in double quotes should"),
    ("{\n'a': 1}", "it is no JSON: in line 2, column 1 stands 'a': 1} where a name in double quotes should"),
    ('{"a" 1}', "it is no JSON: in column 6 stands 1} where a colon should"),
    ('{"a": 1 "b": 2}', 'it is no JSON: in column 9 stands "b": 2} where a comma or a closing bracket should'),
    ('{"a": "b\nc"}', 'it is no JSON: in line 1, column 9 stands "\\n" where an escape such as \\n or \\t should'),
    ('{"a": "\\q"}', "it is no JSON: in column 8 stands \\q\"} where another escape should, such as \\\\ or \\n"),
    ('{"a": "\\u12"}', "it is no JSON: in column 9 stands u12\"} where an escape of four digits should"),
    ("1 2", "it is no JSON: in column 3 stands 2 where it should end"),
    ("\ufeff{}", "it is no JSON: in column 1 stands \"\\ufeff\" where a bracket should"),
    ("1" * 5000, "it holds a number of thousands of digits"),
    ("[" * 100_000, "its brackets are nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), NOT_JSON, ids=[words for _, words in NOT_JSON])
def test_json_that_is_none_is_told_by_its_place(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_json(text)
    assert str(raised.value).startswith(words)


def test_what_pydantic_reads_itself_is_told_alike() -> None:
    for text, words in NOT_JSON[:9]:
        with pytest.raises(ValidationError) as raised:
            Outer.model_validate_json(text)
        assert in_words(raised.value) == words
    for data, begin in (
        (b"\xef\xbb\xbf{}", 'it is no JSON: in column 1 stands "\\ufeff"'),
        ("{}".encode("utf-16"), "it is no text"),
    ):
        with pytest.raises(ValidationError) as raised:
            Outer.model_validate_json(data)
        assert in_words(raised.value).startswith(begin)
    with pytest.raises(ValidationError) as raised:  # half of a surrogate pair, which Python's reader takes
        TypeAdapter(str).validate_json('"\\ud800"')
    assert in_words(raised.value).startswith("it is no JSON from line 1, column ")


def test_a_text_that_is_not_utf8_is_told_by_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"abc\xff")
    for read in (lambda: read_text(path), lambda: parse_json(b'"a\xff"')):
        with pytest.raises(ValueError, match=r"it is no text in UTF-8: byte [34] is 0xff"):
            read()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\nb: 2", "line 2, column 2: a comma or ] should stand there"),
        ("a: {b: 1", "line 1, column 9: it breaks off"),
        ("a: [", "line 1, column 5: it breaks off"),
        ('a: "b', "line 1, column 6: a text in quotes does not end"),
        ("a:\n\t- b", "line 2, column 1: a tab stands where spaces should"),
        ("a: @b", "line 1, column 4: a text that begins with @ has to stand in quotes"),
        ("a: b: c", "line 1, column 5: a colon stands where none can"),
        ("a: 1\nb\nc: 2", "line 3, column 1: a colon should stand behind the key"),
        ("a:\n  - b\n c: d", "line 3, column 2: the indentation does not fit"),
        ("a: *b", "line 1, column 4: *b stands for what &b should mark before it"),
        ('a: "\\q"', r"line 1, column 6: \q is no escape: write \\q"),
        ("a: !!python/name:os.system x", "line 1, column 4: no values of this !tag are taken"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins"),
        ("? [a]\n: b", "line 1, column 3: a list or a mapping cannot be a key"),
        ("<<: 1", "line 1, column 5: << takes a mapping"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}", "line 2: c is given twice"),
        ("%YAML 9.9\n---\na: 1", "line 1, column 1: it is no YAML from there on"),
        ("a: \x00", "letter 4 is a control character"),
        ("a: 2026-13-01", "it holds a date or a number that is none"),
    ],
)
def test_yaml_that_is_none_is_told_by_its_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_yaml(text)
    assert str(raised.value).startswith(words)


def test_rows_of_somebody_else_are_told_without_the_names_of_errors() -> None:
    missing = FileNotFoundError(2, "No such file or directory", "rows.json")
    said = [fault_in_words(of) for of in (KeyError("question"), TypeError("'int' object"), ValueError("a"), missing)]
    assert said == [
        "it has no question",
        "a part of it is of another kind than it should be",
        "a",
        "No such file or directory",
    ]

"""Recipes, prompts and mixtures: refused at once, with what to do."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from actors import recipe
from PIL import Image

from avar_eval.errors import UsageError
from avar_eval.recipes.data import load
from avar_eval.recipes.mixture import read_mixture
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.recipe import read_recipe as training_recipe
from avar_eval.recipes.recipe import shipped
from avar_eval.recipes.sources import MIXTURES, TrainingDataError, check_source
from avar_eval.recipes.synthesis.finish import source_licence
from avar_eval.recipes.synthesis.prompts import FIELDS, prompts_of, read_prompt
from avar_eval.recipes.synthesis.recipe import STAGES, parse_recipe, read_recipe
from avar_eval.recipes.synthesis.selection import row_domain

URL = "http://localhost:1/v1"


def changed(*path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(recipe(URL, 4))
    place: Any = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return content


REFUSED = {
    "key": (changed("filtres", value={}), "unknown key 'filtres': did you mean filters"),
    "key of a stage": (changed("stages", "reason", "sample", value=4), "did you mean stages.reason.samples"),
    "key of a filter": (changed("filters", "reflection", value=4), "did you mean filters.reflections"),
    "stage": (changed("stages", "refine", value={}), "unknown key 'stages.refine'"),
    "no url": (changed("stages", "describe", "url", value=None), "needs the url of an endpoint"),
    "no endpoint": (changed("stages", "describe", "url", value="localhost"), "must begin with http"),
    "a key in the url": (changed("stages", "describe", "url", value="http://k@h/v1"), "must not hold a key"),
    "greedy samples": (changed("stages", "reason", "temperature", value=0), "temperature above 0"),
    "price": (changed("stages", "anchor", "price", value=[-1, 2]), "dollars a million tokens"),
    "samples of stage 3": (changed("stages", "anchor", "samples", value=2), "stages.anchor.samples"),
    "no sources": (changed("sources", value=[]), "sources"),
    "unknown source": (changed("sources", value=[{"source": "geo4k"}]), "there is no training data 'geo4k'"),
    "twice": (changed("sources", value=[{"source": "shapes"}] * 2), "stands there twice"),
    "a domain": (changed("sources", value=[{"source": "shapes", "domain": "art"}]), "domain"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_that_is_none_is_refused_with_the_place(name: str) -> None:
    content, said = REFUSED[name]
    with pytest.raises(UsageError, match=said.replace("(", r"\(")) as refused:
        parse_recipe(content, "the recipe")
    assert "the recipe" in str(refused.value)


def test_a_cost_limit_needs_prices() -> None:
    content = recipe(URL, 4, cost_limit=3)
    del content["stages"]["anchor"]["price"]
    with pytest.raises(UsageError, match="price of each stage: anchor has none"):
        parse_recipe(content, "x")


def test_files_that_are_no_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(str(tmp_path / "none.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UsageError, match="it needs `sources` and `stages`"):
        read_recipe(str(tmp_path / "list.yaml"))


def test_shipped_prompts_are_versioned_and_take_what_their_stage_gives() -> None:
    found = prompts_of(parse_recipe(recipe(URL, 4), "x"))
    assert len({prompt.digest for prompt in found.values()}) == 6
    for (stage, _), prompt in found.items():
        assert prompt.version == 1
        text = prompt.render(**{name: f"<<{name}>>" for name in FIELDS[stage]})
        assert all(f"<<{name}>>" in text for name in FIELDS[stage])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Solve {{ question }}", "must begin with `version: 1`"),
        ("version: 1\n---\nSolve {{ answer }}", "it may name {{ question }}, {{ description }}"),
        ("version: 1\n---\nSolve {% for %}", "cannot be filled"),
    ],
)
def test_a_prompt_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.md").write_text(text)
    with pytest.raises(UsageError) as refused:
        read_prompt(tmp_path / "mine.md", "reason")
    assert said in str(refused.value)


def folders_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("solidgeo", "super_clevr", "ai2d"):
        (tmp_path / "data" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def test_the_papers_two_mixtures_have_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no folder 'data/solidgeo' .*: download SolidGeo.json"):
        read_recipe("vard_coldstart")
    folders_of_sources(tmp_path, monkeypatch)
    whole = read_recipe("vard_coldstart")
    assert [entry.count for entry in whole.sources] == [22200, 2100, 3200, 1800, 1300]
    assert whole.stage("reason").samples == 4
    assert [whole.stage(stage).model for stage in STAGES] == [
        "gemini-2.5-pro",
        "Qwen/Qwen3-235B-A22B-Thinking-2507",
        "Qwen/Qwen3-32B",
    ]
    assert [entry.count for entry in read_mixture(MIXTURES["avar_rl_mix"]).sources] == [12100, 2100, 2200, 1500]
    check_source("avar_rl_mix")
    assert not MIXTURES.keys() & shipped().keys()
    for name in shipped():
        training_recipe(name)


def test_a_mixture_is_a_source_of_rows_with_a_seeded_sample_of_each(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    rows = [
        {"prompt": f"<image>{n}?", "images": ["red.png"], "answer": str(n), "answer_type": "integer"} for n in range(30)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def drawn(seed: int) -> list[tuple[str, str, str]]:
        file = tmp_path / f"mix{seed}.yaml"
        entries = [{"source": str(tmp_path / "rows.jsonl"), "count": 8}, {"source": "shapes", "count": 3}]
        file.write_text(json.dumps({"sources": entries, "seed": seed}))
        found = load(str(file), "grpo", system_prompt=None)
        return [(row["source"], row["id"], row["answer"]) for row in found]

    first = drawn(0)
    assert len(first) == 11
    assert [source for source, *_ in first].count("shapes") == 3
    ours = [(number, answer) for source, number, answer in first if source != "shapes"]
    assert all(number == answer for number, answer in ours)
    assert ours != [(str(n), str(n)) for n in range(8)]
    assert first == drawn(0)
    assert {number for _, number, _ in first} != {number for _, number, _ in drawn(1)}


PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "m3cot": (
        {
            "id": "x-1",
            "question": "Which one?",
            "context": "Two jars.",
            "choices": ["left", "right"],
            "answer": "B",
            "rationale": "…",
            "image": "p.png",
            "domain": "science",
        },
        {
            "answer": "B",
            "answer_type": "choice",
            "choices": ["left", "right"],
            "images": ["p.png"],
            "domain": "science",
        },
        "Two jars.\nWhich one?\n(A) left\n(B) right",
    ),
    "algopuzzlevqa": (
        {"question": "Can it be tiled?", "options": ["Yes", "No"], "answer": "No", "solution": "…", "image": "p.png"},
        {"answer": "B", "answer_type": "choice", "choices": ["Yes", "No"], "images": ["p.png"]},
        "Can it be tiled?\n(A) Yes\n(B) No",
    ),
    "solidgeo": (
        {
            "question": "The volume is?",
            "choices": [],
            "image": ["p.png"],
            "answer": "$9 \\pi$",
            "answer_type": "single-step",
            "qa_id": 3,
        },
        {"answer": "$9 \\pi$", "answer_type": "expression", "images": ["p.png"], "id": "3"},
        "The volume is?",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rows_of_the_papers_cold_start_sources_become_ours(name: str) -> None:
    row, wanted, prompt = PUBLISHED[name]
    made = PAPER_SOURCES[name].adapter(row)
    assert {key: made[key] for key in wanted} == wanted
    assert made["prompt"].startswith(prompt)


def test_choices_of_solidgeo_lose_their_own_labels() -> None:
    row = {"question": "Which?", "choices": ["A. a cone", "B. a cube"], "image": ["p.png"], "answer": "B"}
    row |= {"answer_type": "choice", "qa_id": 1}
    made = PAPER_SOURCES["solidgeo"].adapter(row)
    assert (made["choices"], made["answer"]) == (["a cone", "a cube"], "B")


def test_a_row_of_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "SolidGeo.json").write_text(json.dumps([{"problem": "?"}]))
    with pytest.raises(TrainingDataError, match="row 0 of solidgeo has not the published form"):
        load(f"solidgeo={tmp_path}", "grpo", system_prompt=None)


def test_domains_are_those_of_the_row_or_of_its_source() -> None:
    assert row_domain("m3cot", {"domain": "mathematics"}) == "math"
    assert row_domain("m3cot", {"domain": "commonsense"}) == "science"
    assert row_domain("ai2d", {}) == "science"
    assert row_domain("geo3k", {}) == "math"


def test_licences_are_the_sources_own() -> None:
    assert source_licence("solidgeo=data/x").startswith("CC-BY-NC")
    assert source_licence("m3cot") == "CC-BY-SA-4.0"
    assert "not known" in source_licence("owner/name@revision")

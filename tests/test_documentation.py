"""README and docs/: commands that exist with their options, links that lead somewhere, code that runs."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from avar_eval import cli
from avar_eval.leaderboard import cli as leaderboard_cli
from avar_eval.recipes import cli as recipes_cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = {"avar-eval": cli.app, "avar-train": recipes_cli.app, "avar-leaderboard": leaderboard_cli.app}
GENERATED = {"commands.md", "benchmarks.md", "recipes.md", "files.md"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    found.append((page.name, line[2:].partition(" # ")[0].strip()))
    return found


def parse(command: Any, name: str, words: list[str]) -> None:
    """As the program parses its words, without doing anything. Raises click's error for what it does not know."""
    with command.make_context(name, list(words)) as context:
        if isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
            _, inner, remaining = command.resolve_command(context, rest)
            parse(inner, rest[0], remaining)


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_is_one_that_its_program_takes(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avar_eval.tasks.folders.include_folders", lambda folders: None)  # while words are read
    words = shlex.split(line)
    if words[0] == "accelerate":
        words = ["avar-eval", *words[words.index("avar_eval.cli") + 1 :]]
    if words[0] not in PROGRAMS:
        assert words[0] in ("lmms-eval", "vllm", "pip", "python"), f"{page}: nothing is known of {words[0]}"
        return
    parse(get_command(PROGRAMS[words[0]]), words[0], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    titles = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall("^#+ (.*)", text, re.M)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        assert not path or path in GENERATED or (page.parent / path).exists(), target
        assert path or anchor in titles, target


def a_conversation() -> dict[str, Any]:
    """What a block about a model of one's own takes for given."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from avar_eval import user_turn
    from avar_eval.models.checkpoint import resolve_checkpoint

    path = resolve_checkpoint("avar-tiny").path
    return {
        "model": AutoModelForImageTextToText.from_pretrained(path),
        "processor": AutoProcessor.from_pretrained(path),
        "messages": user_turn("Is it red?", Image.new("RGB", (112, 112), "red")),
        "response": "<answer>yes</answer>",
    }


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "leaderboard"))
    names: dict[str, Any] = a_conversation() if page.name in ("README.md", "vas.md") else {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


def test_what_does_not_exist_is_found() -> None:
    for words in (["compare", "a", "b", "--nothing", "1"], ["compere", "a"], ["--modle", "x"]):
        with pytest.raises(Exception, match=r"(?i)no such (option|command)|unknown"):
            parse(get_command(cli.app), "avar-eval", words)

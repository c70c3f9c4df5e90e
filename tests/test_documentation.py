"""README and docs/: commands that run and print what pages show, links that lead somewhere, code that runs.

Where AVAR_WRITE_GOLDEN is set, what the pages show is written anew.
"""

import importlib.util
import os
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from documented import PAGES, ROOT, Documented, abridged, agree, documented, documented_files, printed
from played_models import URL as ENDPOINT
from played_models import played_models
from runs import Server
from typer.core import TyperGroup
from typer.main import get_command

from avar_eval import cli
from avar_eval.leaderboard import cli as leaderboard_cli
from avar_eval.recipes import cli as recipes_cli

PROGRAMS = {"avar-eval": cli.app, "avar-train": recipes_cli.app, "avar-leaderboard": leaderboard_cli.app}
GENERATED = {
    "commands.md",
    "benchmarks.md",
    "recipes.md",
    "files.md",
    "errors.md",
    "reference.md",
    "contributing.md",
}
FAILURE = re.compile(r"avar-(eval|train|leaderboard): ")
GIVEN = [
    "python examples/dots_benchmark/draw.py data",
    "avar-eval --model avar-tiny --tasks shapes --limit 40",
    "avar-eval --model avar-tiny --tasks shapes --limit 40 --steer image=0.15,system=0.4 --output avar-runs/steered",
]
ELSEWHERE = {  # lines that other tests run
    "lmms-eval --model avar --model_args pretrained=avar-tiny --tasks shapes --include_path tasks",  # test_lmms_eval
}
PLACEHOLDERS = {"RUN_A": "avar-runs/avar-tiny", "RUN_B": "avar-runs/steered", "DIR": "written"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def runnable(page: Path) -> Iterator[Documented]:
    """Commands of a page that need no more than this machine has."""
    for command in documented(page):
        if command.words[0] in ("python", *PROGRAMS) and not command.needs:
            yield command


def abbreviated(command: Documented) -> list[str]:
    """A command's words, of README's with folders for its placeholders; where no output is shown, on few questions."""
    words = [PLACEHOLDERS.get(word, word) for word in command.words]
    if not command.output and "--tasks" in words and "--limit" not in words:
        words += ["--limit", "40"]
    trains = words[:2] in (["avar-train", "sft"], ["avar-train", "grpo"])
    if trains and not command.output and "--max_steps" not in words:
        words += ["--max_steps", "1", "--train_rows", "8"]
    return words


def parse(command: Any, name: str, words: list[str]) -> None:
    """As the program parses its words, without doing anything. Raises click's error for what it does not know."""
    with command.make_context(name, list(words)) as context:
        if isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
            _, inner, remaining = command.resolve_command(context, rest)
            parse(inner, rest[0], remaining)


@pytest.mark.parametrize("command", [one for page in PAGES for one in documented(page)], ids=lambda one: one.line)
def test_every_command_is_one_that_its_program_takes(command: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avar_eval.tasks.folders.include_folders", lambda folders: None)  # while words are read
    words = command.words
    if words[0] == "accelerate":
        after = words[words.index("-m") + 1 :]
        words = [{"avar_eval.cli": "avar-eval", "avar_eval.recipes.cli": "avar-train"}[after[0]], *after[1:]]
    if words[0] in PROGRAMS:
        parse(get_command(PROGRAMS[words[0]]), words[0], words[1:])
    elif words[0] != "python":
        assert command.needs or command.line in ELSEWHERE, "not run: end its comment in [what it needs]"


@dataclass(frozen=True)
class Clone:
    """A folder as a clone of the repository is after the first commands of Start, and an endpoint of played models."""

    folder: Path
    server: Server
    endpoint: str

    def run(self, command: Documented) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        words = [word.replace(ENDPOINT, self.endpoint) for word in abbreviated(command)]
        if words[0] == "python":
            environment = os.environ | command.variables
            words = [sys.executable, *words[1:]]
            done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout.strip("\n"), done.stderr
        own = {"AVAR_LEADERBOARD": str(self.folder / "avar-runs" / "leaderboard"), "OMP_NUM_THREADS": "1"}
        code, shown, said = printed(self.server, words, self.folder, **own, **command.variables)
        told = {self.endpoint: ENDPOINT, str(self.folder): "~/avar-eval"}
        for ours, theirs in told.items():
            shown, said = shown.replace(ours, theirs), said.replace(ours, theirs)
        return code, shown, said


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """With two runs of 40 questions, one of them steered."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("examples", "recipes", "tasks", "leaderboard"):
        (folder / name).symlink_to(ROOT / name)
    server = Server(tmp_path_factory.mktemp("printed"), ("avar_eval.recipes.run", "avar_eval.recipes.sft"))
    with played_models() as endpoint:
        clone = Clone(folder, server, endpoint)
        for page in PAGES:
            for name, content in documented_files(page).items():
                (folder / name).write_text(content.replace(ENDPOINT, endpoint), encoding="utf-8")
        for line in GIVEN:
            code, _, said = clone.run(Documented("", line, frozenset(), "shown"))
            assert code == 0, said
        yield clone
    server.stop()


@pytest.mark.parametrize("page", [page for page in PAGES if any(runnable(page))], ids=lambda page: page.name)
def test_commands_run_and_print_what_the_page_shows(page: Path, clone: Clone, tmp_path: Path) -> None:
    own = replace(clone, folder=shutil.copytree(clone.folder, tmp_path / "clone", symlinks=True))
    for command in runnable(page):
        code, shown, said = own.run(command)
        failure = FAILURE.match(command.output)
        writing = os.environ.get("AVAR_WRITE_GOLDEN") and command.output
        assert writing or (code != 0) == bool(failure), f"{command.line}\n{shown}\n{said}"
        if not command.output:
            continue
        error = re.search(r"^avar-\w+: .*", said, re.MULTILINE | re.DOTALL)
        now = abridged(error[0].strip() if code and error else shown, command.output)
        if writing:
            text = page.read_text(encoding="utf-8")
            page.write_text(text.replace(f"\n{command.output}\n", f"\n{now}\n", 1), encoding="utf-8")
        else:
            assert agree(command.output, now), f"{command.line}\n{now}\n--- the page:\n{command.output}"


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


def rows_of(page: str) -> list[list[str]]:
    """The cells of the tables of a page in docs/."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if "`" in "".join(row)]


@pytest.mark.parametrize("row", rows_of("paper.md"), ids=lambda row: row[0])
def test_the_paper_index_names_what_exists(row: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    named = re.findall(r"`([^`]+)`", " ".join(row[1:]))
    code = [name for name in named if name.startswith("avar_eval.")]
    lines = [name for name in named if name.split()[0] in PROGRAMS]
    tests = [name for name in named if name.startswith("tests/")]
    assert sorted(code + lines + tests) == sorted(named)
    assert code
    assert lines
    assert tests
    for name in code:
        pkgutil.resolve_name(name)
    for line in lines:
        parse(get_command(PROGRAMS[line.split()[0]]), line.split()[0], shlex.split(line)[1:])
    for test in tests:
        path, _, function = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not function or f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8"), test


def sections(page: Path) -> list[str]:
    """The parts of a page from one `## ` heading to the next, what stands above the first one with the first part."""
    return re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DATE = re.compile(rf"\d{{1,2}}\s({MONTHS})\s+20\d\d")
MACHINE = re.compile(r"\b(cores?|GPU|[AH]\d{3})\b")
MEASURED = [  # pages with tables of what was measured
    "cost.md",
    "gpu.md",
    "evidence.md",
    "new-user.md",
    "embedded-world.md",
    "causal.md",
    "vllm.md",
    "scores.md",
    "avar-smol.md",
]
EVIDENCE = [
    (name, part.splitlines()[0], part)
    for name in MEASURED
    for part in sections(ROOT / "docs" / name)
    if re.search(r"^\|.*\d", part, re.MULTILINE)
]


@pytest.mark.parametrize(("page", "heading", "part"), EVIDENCE, ids=lambda text: text[:40])
def test_no_measured_table_without_its_command_machine_and_date(page: str, heading: str, part: str) -> None:
    assert DATE.search(part), f"{page}, {heading}: no date"
    assert MACHINE.search(part), f"{page}, {heading}: no machine"
    scripts = re.findall(r"tests/benchmarks/\w+\.py", part)
    assert scripts or re.search(r"`(python -m|avar-\w+|pytest) ", part), f"{page}, {heading}: no command"
    assert all((ROOT / script).exists() for script in scripts), scripts


@pytest.mark.parametrize("row", rows_of("evidence.md"), ids=lambda row: row[0])
def test_the_evidence_names_commands_that_exist(row: list[str]) -> None:
    what, result, command, when = row
    assert MACHINE.search(when), what
    assert DATE.search(when), what
    assert re.search(r"\d|\]\(", result), what
    words = shlex.split(command.split("`")[1])
    if words[0] in PROGRAMS:
        parse(get_command(PROGRAMS[words[0]]), words[0], words[1:])
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2])
    else:
        assert words[0] in ("python", "pytest")
        assert (ROOT / words[1]).exists(), command


def test_every_error_says_what_to_do() -> None:
    kinds = runpy.run_path(str(ROOT / "docs" / "generate.py"))["error_classes"]()
    assert len(kinds) > 30
    assert not [kind.__qualname__ for kind in kinds if "What to do: " not in (kind.__doc__ or "")]


def test_shell_commands_stand_where_they_are_run() -> None:
    # README's and Start's first ones make an environment: .ci/run and tests/benchmarks/new_user.py run these
    assert {page.name for page in PAGES if blocks(page, "(?:bash|sh|shell)")} == {"README.md", "index.md"}

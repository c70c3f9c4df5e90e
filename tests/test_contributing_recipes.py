"""The recipes of CONTRIBUTING.md, carried out from their text in a copy of the repository.

A block of code is a file, or what is added to one: the paragraph before it names the file last, as `path`, and where in
it, if it is there already: "In `NAME` of `path`" adds to the list, tuple or mapping of that name, "before `NAME` of
`path`" puts the block before its definition, "after `CLASS.FIELD` of `path`" behind that field. Blocks of `bash` are
run, line by line.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?P<said>(?:[^\n]+\n)+)\n```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(
    r"(?:(?P<how>in|before|after) `(?P<name>[\w.]+)` of )?`(?P<path>[\w./-]+/[\w.-]+)`:?$", re.IGNORECASE
)


@dataclass(frozen=True)
class Block:
    """said: the paragraph before it."""

    said: str
    language: str
    code: str


def blocks_of(heading: str) -> list[Block]:
    """The blocks of a section."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    found = [Block(" ".join(one["said"].split()), one["language"], one["code"]) for one in BLOCK.finditer(section)]
    assert section.count("```") == 2 * len(found)
    return found


def definition_of(name: str, text: str) -> ast.stmt:
    """Where a module defines a name."""
    *outer, name = name.split(".")
    body = ast.parse(text).body
    for one in outer:
        (body,) = (node.body for node in body if isinstance(node, ast.ClassDef) and node.name == one)
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        if name in (getattr(target, "id", None) or getattr(target, "name", None) for target in targets):
            return node
    raise AssertionError(f"there is no {name}")


def write(block: Block, root: Path) -> None:
    """Put a block where the text says."""
    place = PLACE.search(block.said)
    assert place, f"the text does not say which file this is: {block.said!r}"
    path, code = root / place["path"], block.code
    path.parent.mkdir(parents=True, exist_ok=True)
    if place["how"] is None:
        if path.exists():
            assert path.suffix == ".json", f"{path} is there already: the text must say where in it"
            code = json.dumps(json.loads(path.read_text(encoding="utf-8")) | json.loads(code))
        path.write_text(code, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    node = definition_of(place["name"], text)
    lines = text.splitlines(keepends=True)
    if place["how"].lower() == "before":
        at = sum(map(len, lines[: node.lineno - 1]))
        code = f"{code}\n\n" if isinstance(node, ast.FunctionDef | ast.ClassDef) else f"{code}\n"
    elif place["how"].lower() == "after":
        at = sum(map(len, lines[: node.end_lineno]))
    else:
        assert node.end_lineno
        assert node.end_col_offset
        at = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset - 1
        code = code if text[:at].rstrip().endswith((",", "[", "(", "{")) else f", {code}"
    path.write_text(text[:at] + code + text[at:], encoding="utf-8")


def run(block: Block, root: Path) -> str:
    """Run the lines of a block; what they print."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(root), "PATH": tools, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    said = ""
    for line in block.code.splitlines():
        done = subprocess.run(line, shell=True, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    return said


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository, as a contributor has it."""
    root = tmp_path / "repository"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "avar-runs", "build", "dist")
    shutil.copytree(ROOT, root, symlinks=True, ignore=left_out)
    return root


def carry_out(heading: str, root: Path) -> str:
    """Write and run all blocks of a section; what was printed."""
    return "".join(
        run(block, root) if block.language == "bash" else (write(block, root) or "") for block in blocks_of(heading)
    )


def test_a_benchmark_is_added(copy: Path) -> None:
    for number in (1, 2, 3):
        picture = copy / "data" / "dots" / "images" / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (112, 112), "white").save(picture)
    said = carry_out("Add a benchmark", copy)
    assert "how many dots there are" in said
    metrics = json.loads((copy / "avar-runs" / "dots" / "results.json").read_text())["tasks"]["dots"]["metrics"]
    assert metrics["accuracy"]["n"] == metrics["vas"]["n"] == 3
    assert metrics["vas"]["value"] > 0


def test_a_model_family_is_added(copy: Path) -> None:
    said = carry_out("Add a model family", copy)
    assert int(re.search(r"(\d+) passed", said)[1]) >= 12  # type: ignore[index]


def test_a_loss_is_added(copy: Path) -> None:
    assert "1 passed" in carry_out("Add a loss or reward", copy)


def test_a_sampling_option_is_added(copy: Path) -> None:
    files = [PLACE.search(block.said) for block in blocks_of("Add a sampling option") if block.language != "bash"]
    assert [place and place["path"] for place in files] == [
        "avar_eval/models/decoding.py",
        "avar_eval/models/sampling.py",
        "avar_eval/models/sampling.py",
    ], "three edits"
    said = carry_out("Add a sampling option", copy)
    assert re.search(r"--frequency-penalty X\s+Taken off a token's logit each time", said)
    plain, penalised = (copy / "avar-runs" / name for name in ("plain", "frequency"))
    decoding = json.loads((penalised / "results.json").read_text())["protocol"]["decoding"]
    assert decoding.pop("frequency_penalty") == 0.5
    assert decoding == json.loads((plain / "results.json").read_text())["protocol"]["decoding"]
    keys = [
        {json.loads(line)["key"] for line in (folder / "records.jsonl").read_text().splitlines()}
        for folder in (plain, penalised)
    ]
    assert len(keys[0]) == len(keys[1]) == 2
    assert not keys[0] & keys[1], "another way to draw is another record"

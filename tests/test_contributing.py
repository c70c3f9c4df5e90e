"""What CONTRIBUTING.md says of the folders is so: which there are, and that none imports what it may not."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| `[\w/]+` \| `avar_eval\.(\w+)` \|", re.MULTILINE)
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
NAMES = {contract["id"]: contract["name"] for contract in SETTINGS["contracts"]}
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_every_folder_is_in_the_table() -> None:
    table = ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert sorted(table) == sorted(path.parent.name for path in (ROOT / "avar_eval").glob("*/__init__.py"))


def lint(root: Path) -> tuple[list[str], str]:
    """The contracts that a tree breaks, and what import-linter says."""
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]), "COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    broken = [contract for contract, name in NAMES.items() if f"{name} BROKEN" in said]
    assert (done.returncode == 0) == ("0 broken" in said), said
    return broken, said


def test_all_contracts_are_kept() -> None:
    broken, said = lint(ROOT)
    assert broken == []
    assert f"Contracts: {len(NAMES)} kept, 0 broken" in said


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the contracts speak of."""
    for folder in ("avar_eval", "tasks", "recipes", "leaderboard"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "light_contract.py", tmp_path / "tests")
    return tmp_path


LATER = "def later() -> None:\n    {}"


@pytest.mark.parametrize(
    ("contract", "file", "line"),
    [
        ("layers", "avar_eval/models/backend.py", "import avar_eval.run.evaluate"),
        ("layers", "avar_eval/models/backend.py", LATER.format("from avar_eval.run import evaluate")),
        ("layers", "tasks/mathvista/task.py", "from avar_eval.models.registry import registry"),
        ("layers", "tasks/catalog.py", "import avar_eval.recipes.data"),
        ("layers", "avar_eval/records/record.py", "from avar_eval.tasks.catalog import catalog"),
        ("layers", "avar_eval/sweep/grid.py", "import avar_eval.diagnosis.correlate"),
        ("layers", "avar_eval/answers/equal.py", "import avar_eval.keys"),
        ("layers", "avar_eval/attention/score.py", "import avar_eval.user_files"),
        ("layers", "avar_eval/attention/score.py", "import avar_eval.answers"),
        ("layers", "leaderboard/table.py", "import avar_eval.run.evaluate"),
        ("layers", "avar_eval/surprise.py", "pass"),
        ("answers", "avar_eval/answers/equal.py", "import torch"),
        ("answers", "avar_eval/answers/equal.py", LATER.format("import transformers")),
        ("answers", "avar_eval/answers/equal.py", "from avar_eval.errors import AvarError"),
        ("attention", "avar_eval/attention/score.py", "from trl import SFTTrainer"),
        ("attention", "avar_eval/attention/score.py", LATER.format("import lmms_eval.api.model")),
        ("command lines", "avar_eval/watch/cli.py", "import torch"),
        ("command lines", "avar_eval/terminal.py", "import numpy as np"),
        ("command lines", "avar_eval/look/__init__.py", "if True:\n    from transformers import AutoModel"),
        ("command lines", "avar_eval/__init__.py", "import pandas"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(tree: Path, contract: str, file: str, line: str) -> None:
    with (tree / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    broken, said = lint(tree)
    assert broken == [contract], said


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("avar_eval/watch/cli.py", LATER.format("import torch")),
        ("avar_eval/models/backend.py", "import avar_eval.tasks.catalog"),
        ("avar_eval/attention/score.py", "import avar_eval.errors, torch, transformers"),
        ("avar_eval/models/registry.py", "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import avar_eval.run.evaluate"),
    ],
)
def test_what_is_allowed_breaks_none(tree: Path, file: str, line: str) -> None:
    with (tree / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    assert lint(tree)[0] == []


@pytest.mark.parametrize(
    "name",
    [
        *("records", "leaderboard", "keys", "errors"),
        *("avar_eval.answers", "avar_eval.attention", "avar_eval.errors", "avar_eval.cli", "scipy"),
    ],
)
def test_a_contract_that_names_what_does_not_exist_fails(tree: Path, name: str) -> None:
    before, start, contracts = (tree / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.importlinter]")
    changed, count = re.subn(rf"(?<![\w.]){re.escape(name)}(?![\w.])", f"{name}_of_old", contracts)
    assert count > 0
    (tree / "pyproject.toml").write_text(before + start + changed, encoding="utf-8")
    said = lint(tree)[1]
    assert f"{name}_of_old" in said
    assert "0 broken" not in said


@pytest.mark.parametrize("folder", ["answers", "attention", "records", "tasks"])
def test_a_folder_that_was_moved_away_is_missed(tree: Path, folder: str) -> None:
    (tree / "avar_eval" / folder).rename(tree / f"{folder}_of_old")
    assert "0 broken" not in lint(tree)[1]


def test_packages_that_are_forbidden_are_spelled_as_they_are_imported() -> None:
    """import-linter takes any name of a package from elsewhere, and so would never miss `torhc`."""
    import grimp

    forbidden = {name for contract in SETTINGS["contracts"] for name in contract.get("forbidden_modules", ())}
    assert forbidden <= grimp.build_graph("avar_eval", include_external_packages=True).modules

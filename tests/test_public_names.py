"""`import avar_eval`: light, and all that it offers is there."""

import subprocess
import sys

import pytest

import avar_eval


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, avar_eval; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", avar_eval.__all__)
def test_every_public_name_is_there_and_described_with_the_package(name: str) -> None:
    assert getattr(avar_eval, name) is not None
    assert name == "__version__" or name in (avar_eval.__doc__ or "")

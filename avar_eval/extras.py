"""Packages that only an extra of avar-eval brings: which are missing, said at once, before anything is loaded. Light.

An extra's packages are those of `[project.optional-dependencies]`, as the installed distribution tells them.
"""

import importlib
import importlib.util
import re
from collections.abc import Mapping
from importlib.metadata import requires
from typing import Final

from avar_eval.errors import AvarError

_REQUIREMENT: Final = re.compile(r"([\w.-]+).*;.*extra == [\"']([\w-]+)[\"']")
_NEEDS_COMPILER: Final = "smol"
"""The extra one of whose packages asks for a package that pip has to compile, and that nothing here uses."""


class MissingPackagesError(AvarError):
    """Packages of an extra are not installed.

    What to do: Install them with the command that the message ends with, and run the same command again.
    """


def extra_packages(extra: str) -> list[str]:
    """The packages of an extra, as pip calls them."""
    found = (_REQUIREMENT.match(line) for line in requires("avar-eval") or ())
    return [one[1] for one in found if one and one[2] == extra]


def check_extras(needed: Mapping[str, str]) -> None:
    """Raise MissingPackagesError, which names all packages that are missing. needed: extras -> what needs each."""
    missing = {
        extra: lacking
        for extra in needed
        if (lacking := [of for of in extra_packages(extra) if importlib.util.find_spec(of.replace("-", "_")) is None])
    }
    if not missing:
        return
    said = "; ".join(f"{needed[extra]} needs {' and '.join(lacking)}" for extra, lacking in missing.items())
    packages = " ".join(package for lacking in missing.values() for package in lacking)
    without = f", or, without the compiler that llama.cpp needs, pip install --no-deps {packages}"
    raise MissingPackagesError(
        f"{said}: pip install 'avar-eval[{','.join(missing)}]'{without if _NEEDS_COMPILER in missing else ''}"
    )


def check_import(extra: str, what: str) -> None:
    """As `check_extras`, and import the extra's package, which has its name, too. Raises MissingPackagesError."""
    check_extras({extra: what})
    try:
        importlib.import_module(extra)
    except ImportError as error:
        raise MissingPackagesError(
            f"{what} needs {extra}, which is installed and cannot be imported ({error}): "
            f"pip install --force-reinstall 'avar-eval[{extra}]'"
        ) from error

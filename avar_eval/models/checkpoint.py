"""What a model's name, path or hub repository stands for, and its checkpoint: a folder of weights with an identity."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avar_eval.errors import AvarError, UsageError
from avar_eval.in_words import fault_in_words, shown
from avar_eval.models.registry import ModelEntry, find_by_weights, find_model, get_model
from avar_eval.models.training_run import read_training_run
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


INTERNVL_CHAT = "internvl_chat"
"""OpenGVLab's own code, whose weights are read as transformers' InternVL (`avar_eval.models.internvl_chat`)."""

_LOGS = ("training.json", "trainer_state.json", "training_run.json", "complete.json")
"""Of training, read by no model."""


class CheckpointError(AvarError):
    """A checkpoint cannot be had or is not one that can be run here.

    What to do: Give the path of a folder with the weights of a supported architecture, or fetch it where a network is.
    """


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

    base: what the weights are an adapter for (LoRA, as peft writes it), None where they are a model's own. processor:
    folder of the processor, where it is not the weights'.
    """

    name: str
    path: Path
    revision: str | None
    base: "Checkpoint | None" = None
    processor: Path | None = None

    @property
    def model_path(self) -> Path:
        """Folder with the whole model's configuration and weights: an adapter's is its base's."""
        return self.path if self.base is None else self.base.model_path

    @property
    def processor_path(self) -> Path:
        """Folder with tokenizer, image processor and chat template; those beside an adapter go before its base's."""
        if self.processor is not None:
            return self.processor
        return self.path if (self.path / "tokenizer_config.json").is_file() else self.model_path


@dataclass(frozen=True)
class ModelSource:
    """What a model's name stands for, known without loading anything.

    name: as it stands in tables. entry: the registered model that it is, by whatever name, folder or repository. base:
    where it is none, the registered model that it was trained from; trained_here: by AVAR's trainers. Its weights are
    in a `folder`, or in a hub `repository` at a `revision`, or nowhere: it is only served then.
    """

    name: str
    entry: ModelEntry | None
    base: ModelEntry | None = None
    trained_here: bool = False
    folder: Path | None = None
    repository: str | None = None
    revision: str | None = None

    @property
    def is_adapter(self) -> bool:
        """Whether its folder holds an adapter of peft."""
        return self.folder is not None and (self.folder / ADAPTER_CONFIG).is_file()


def find_source(model: str, *, served: bool = False) -> ModelSource:
    """Find a registered name, a local folder or a hub repository `owner/name[@revision]`.

    A registered name wins over a folder of the same name in the working directory; write ./NAME for that one.
    served: by an endpoint, which may know any name. Raises UsageError if it is none of them.
    """
    if entry := find_model(model):
        return ModelSource(entry.name, entry, folder=entry.path, repository=entry.repository, revision=entry.revision)
    entry = find_by_weights(model)
    if served:
        return ModelSource(model, None if Path(model).is_dir() else entry)
    if Path(model).is_dir():
        folder = Path(model).resolve()
        if entry is not None:
            return ModelSource(model, entry, folder=folder)
        base, trained_here = _base_and_trainer(folder)
        return replace(trained_from(folder, base, trained_here=trained_here), name=model)
    if not _is_repository(model):
        if os.sep in model:
            raise UsageError(f"there is no model folder {model!r} on this disk")
        get_model(model)
    repository, _, revision = model.partition("@")
    return ModelSource(
        repository, entry, repository=repository, revision=revision or (entry.revision if entry else None)
    )


_LONGEST_LINEAGE = 20
"""Trainings that may follow one another; folders that name each other as their base have no end."""


def trained_from(folder: Path, base: str | None, *, trained_here: bool) -> ModelSource:
    """The source of what a training in that folder makes of a base model.

    trained_here: by AVAR's trainers. base: a name, folder or repository, None if it is not known.
    """
    for _ in range(_LONGEST_LINEAGE):
        if base is None:
            break
        entry = find_model(base) or find_by_weights(base)
        if entry is not None or not Path(base).is_dir():
            return ModelSource(str(folder), None, entry, trained_here, folder=folder)
        base, ours = _base_and_trainer(Path(base).resolve())
        trained_here = trained_here or ours
    return ModelSource(str(folder), None, None, trained_here, folder=folder)


def _base_and_trainer(folder: Path) -> tuple[str | None, bool]:
    """The model that a folder's weights were trained from, if it says so, and whether AVAR's trainers did that."""
    training = read_training_run(folder) or read_training_run(folder.parent)
    return (training.base, True) if training else (_named_base(folder), False)


def _named_base(folder: Path) -> str | None:
    """The base model that an adapter names, if the folder is one's."""
    path = folder / ADAPTER_CONFIG
    named = _read_json(path).get("base_model_name_or_path") if path.is_file() else None
    return named if isinstance(named, str) and named else None


def resolve_checkpoint(model: str) -> Checkpoint:
    """The weights of a registered name, a local folder or a hub repository: see `find_source` and `locate`."""
    return locate(find_source(model))


def locate(source: ModelSource) -> Checkpoint:
    """The weights of a model, downloaded if need be.

    Raises UsageError if it has none, CheckpointError if they cannot be had or are not supported.
    """
    checkpoint = _located(source)
    if (checkpoint.path / ADAPTER_CONFIG).is_file() and not (checkpoint.path / "config.json").is_file():
        return replace(checkpoint, base=_base_checkpoint(checkpoint))
    _check_architecture(checkpoint)
    if read_architecture(checkpoint.path) == INTERNVL_CHAT:
        return _with_processor(checkpoint, source.entry)
    return checkpoint


def read_architecture(path: Path) -> str | None:
    """`model_type` of a folder's config.json. Raises CheckpointError if it cannot be read."""
    named = _read_json(path / "config.json").get("model_type")
    return named if isinstance(named, str) else None


def _with_processor(checkpoint: Checkpoint, entry: ModelEntry | None) -> Checkpoint:
    """A checkpoint of OpenGVLab's own code with a processor of transformers. Raises CheckpointError without one."""
    from avar_eval.models.internvl_chat import decoder_class

    try:
        decoder_class(_read_json(checkpoint.path / "config.json"))
    except AvarError as error:
        raise CheckpointError(f"{checkpoint.name} cannot be run: {error}") from error
    if (checkpoint.path / "processor_config.json").is_file():
        return checkpoint
    if entry is not None and entry.processor is not None:
        return replace(checkpoint, processor=_from_hub(entry.processor, None, weights=False))
    raise CheckpointError(
        f"{checkpoint.name} is of OpenGVLab's own code and has no processor of transformers (processor_config.json): "
        "copy tokenizer and processor files of the converted checkpoint of its series into its folder, of a repository "
        "whose name ends in -hf"
    )


def _base_checkpoint(adapter: Checkpoint) -> Checkpoint:
    """The model that an adapter names as its base. Raises CheckpointError."""
    path = adapter.path / ADAPTER_CONFIG
    named = _named_base(adapter.path)
    if named is None:
        raise CheckpointError(f"{path} names no base model: write it there as base_model_name_or_path")
    try:
        base = _located(find_source(named))
        _check_architecture(base)
    except AvarError as error:
        raise CheckpointError(
            f"{adapter.name} is an adapter, and its base is not to be had: {error}; write where it is into {path} as "
            "base_model_name_or_path"
        ) from error
    return base


def _located(source: ModelSource) -> Checkpoint:
    if source.entry is not None and source.entry.assembled:
        from avar_eval.models.assembled import assemble_once

        return Checkpoint(source.name, assemble_once(source.entry.name), None)
    if source.folder is not None:
        return Checkpoint(source.name, source.folder, None)
    if source.repository is None:
        raise UsageError(f"{source.name} has no weights to load: it is only served, run it with --backend api")
    path = _from_hub(source.repository, source.revision)
    return Checkpoint(source.name, path, path.name)


def _is_repository(model: str) -> bool:
    owner, _, name = model.partition("@")[0].partition("/")
    return bool(owner and name) and "/" not in name and not owner.startswith((".", "~"))


def _from_hub(repository: str, revision: str | None, weights: bool = True) -> Path:
    """The snapshot folder of a hub repository (its name is the commit), downloaded if it is not in the cache.

    weights: False leaves them there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    left = ["*.bin", "*.pth", "*.gguf", "original/*", *([] if weights else ["*.safetensors"])]
    how = "; give --model the path of a local folder that holds it instead"
    try:
        return Path(snapshot_download(repository, revision=revision, ignore_patterns=left))
    except HFValidationError as error:
        raise UsageError(f"{repository!r} is neither a folder on this disk nor a name of a hub repository") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated: accept its conditions at https://huggingface.co/{repository} and run "
            f"`hf auth login`{how}"
        ) from error
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
    architecture = read_architecture(checkpoint.path)
    if architecture not in (*SUPPORTED_ARCHITECTURES, INTERNVL_CHAT):
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
        raise CheckpointError(f"{path} cannot be read: {fault_in_words(error)}; fetch it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is {shown(content)}, not an object: fetch it again")
    return content


def weights_sha256(checkpoint: Checkpoint) -> str:
    """One SHA-256 (hex) over everything that decides a checkpoint's answers: weights, configuration, tokenizer.

    An adapter's covers its own files and its base's. Raises CheckpointError where there are no weights, or not all.
    """
    own = _folder_sha256(checkpoint.path)
    if checkpoint.processor is not None:
        own = hashlib.sha256(f"{own}\n{_files_sha256(checkpoint.processor, [])}".encode()).hexdigest()
    if checkpoint.base is None:
        return own
    return hashlib.sha256(f"{own}\n{weights_sha256(checkpoint.base)}".encode()).hexdigest()


def _folder_sha256(path: Path) -> str:
    return _files_sha256(path, loaded_weights(path))


def _files_sha256(path: Path, weights: list[Path]) -> str:
    """Of a folder's configuration and tokenizer, and of these files."""
    endings = {".safetensors", ".json", ".jinja", ".txt"}
    if not (path / "tokenizer.json").is_file():
        endings |= {".model", ".tiktoken"}  # what a tokenizer is then made from
    read = {file for file in path.iterdir() if file.suffix in endings and file.name not in _LOGS and file.is_file()}
    digest = hashlib.sha256()
    for file in sorted(read | set(weights)):
        try:
            with open_file(file) as opened:
                sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
        digest.update(f"{file.relative_to(path)}\0{sha256}\n".encode())
    return digest.hexdigest()


def loaded_weights(path: Path) -> list[Path]:
    """The files that transformers (of a model) or peft (of an adapter) would load weights from, its index included.

    What else lies in the folder is not read: beside model.safetensors, a pytorch_model.bin changes nothing.
    """
    names: tuple[str, ...] = _ADAPTER_WEIGHTS
    if (path / "config.json").is_file():
        named = _read_json(path / "config.json").get("transformers_weights")
        names = (named,) if isinstance(named, str) else _WEIGHTS
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise CheckpointError(f"{path} holds no weights: it has no {' and no '.join(names)}; fetch them again")
    if not found.name.endswith(".index.json"):
        return [found]
    shards = _read_json(found).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{found} does not say which files hold the weights: fetch it again")
    return [found, *(path / shard for shard in dict.fromkeys(shards.values()))]

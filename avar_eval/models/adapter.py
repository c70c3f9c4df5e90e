"""LoRA adapters and their kin, as peft writes them, put into the layers of their base: all their tensors, or none."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from avar_eval.extras import check_import
from avar_eval.models.backend import BackendError
from avar_eval.models.checkpoint import Checkpoint

_PREFIX = "base_model.model."
"""What peft puts before the name of a tensor in the base model."""


def with_adapter(model: Any, checkpoint: Checkpoint) -> Any:
    """The model with an adapter in its layers, not merged: merging would round its weights once more.

    Tensors that are named as an older transformers named the base's layers find their place through transformers' own
    table of renamings. A stack of layers of which the adapter has nothing, such as a frozen vision tower, stays as it
    is. Raises BackendError, with names, where the adapter's other tensors are not those that its configuration
    asks for: peft would leave those layers as they are, and the base would be scored for the adapter.
    """
    check_import("peft", f"the adapter {checkpoint.name}")
    from peft import PeftConfig, PeftModel
    from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(str(checkpoint.path))
    if config.is_prompt_learning:
        raise BackendError(
            f"{checkpoint.name} is an adapter of kind {config.peft_type.value}, which is prepended to a prompt: only "
            "those in a model's layers can be run, such as LoRA"
        )
    config.inference_mode = True
    older = _older_names(model)
    weights: dict[str, Tensor] = load_peft_weights(str(checkpoint.path), device="cpu")
    adapted = PeftModel(model, config)
    asked: dict[str, Tensor] = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if not weights.keys() <= asked.keys():
        weights = {_PREFIX + older(name.removeprefix(_PREFIX)): tensor for name, tensor in weights.items()}
    missing = _missing(asked, weights)
    # beside what is asked for, whole tensors of the base may stand there, such as embeddings of added tokens
    unknown = weights.keys() - asked.keys() - adapted.state_dict().keys()
    _check_names(checkpoint, missing, unknown, len(asked))
    set_peft_model_state_dict(adapted, weights)
    return adapted.get_base_model()


def _missing(asked: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> set[str]:
    """The tensors of stacks that the adapter has in part; and those of other stacks, unless they change nothing."""
    stacks: dict[str, list[str]] = {}
    for name in asked:
        stacks.setdefault(re.split(r"\.\d+\.", name, maxsplit=1)[0], []).append(name)
    missing: set[str] = set()
    for names in stacks.values():
        outer = [asked[name] for name in names if ".lora_B." in name]
        untouched = not weights.keys() & set(names) and outer and not any(bool(tensor.any()) for tensor in outer)
        missing |= set() if untouched else set(names) - weights.keys()
    return missing if weights.keys() & asked.keys() else set(asked)


def _check_names(checkpoint: Checkpoint, missing: Iterable[str], unknown: Iterable[str], asked: int) -> None:
    """Raise BackendError if any tensor has no counterpart."""
    problems = []
    if lacking := sorted(missing):
        problems.append(f"{len(lacking)} of the {asked} tensors that it asks for are missing ({_some(lacking)})")
    if strange := sorted(unknown):
        problems.append(f"{len(strange)} tensors have no place in it ({_some(strange)})")
    if problems:
        raise BackendError(
            f"the adapter {checkpoint.name} does not fit {checkpoint.model_path}: {' and '.join(problems)}; save it "
            "again with peft under this version of transformers, or name its own base in adapter_config.json"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _older_names(model: Any) -> Callable[[str], str]:
    """The renaming of a checkpoint's tensors that transformers itself does when it loads weights into this model."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    renamings = [one for one in get_model_conversion_mapping(model) if isinstance(one, WeightRenaming)]

    def renamed(name: str) -> str:
        found: str = rename_source_key(name, renamings, [])[0]
        return found

    return renamed

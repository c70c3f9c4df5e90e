"""What would end a training at its first row or its ninth hour, found before a model or data are loaded."""

import importlib.util
import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from transformers.integrations.hub_kernels import is_kernel
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.utils import is_kernels_available

from avar_eval.attention.implementations import resolve_kernel_name, unavailable_reason
from avar_eval.errors import UsageError
from avar_eval.recipes.contamination import check_public_tests
from avar_eval.recipes.data import Method, first_row
from avar_eval.recipes.mixture import parts_of
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.recipe import Recipe
from avar_eval.recipes.sources import EMBEDDED, TrainingDataError, rows_file

_COMMANDS: Final[dict[Method, Method]] = {"sft": "grpo", "grpo": "sft"}
_FORMS: Final[dict[Method, str]] = {
    "sft": "solutions to learn from, and no answers to judge a response against",
    "grpo": "answers to judge a response against, and no solutions to learn from",
}
_KNOWN_FORMS: Final[dict[str, Method]] = {"Antimage01/AVAR-ColdStart-30K": "sft"}
"""Sets of the hub in a form that is read as it is."""
_LOG_IN: Final = "run `hf auth login` or set HF_TOKEN"
_TRACKERS: Final = {
    "azure_ml": "azureml.core",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet_ml",
    "dagshub": "dagshub",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""The package behind each tracker of transformers that needs one."""


def check_data(recipe: Recipe) -> None:
    """Raise UsageError or TrainingDataError for data of another method's form and for public benchmarks.

    Known sets are told by their names; of a file or folder of rows the first row is read.
    """
    method = recipe.card.method
    for key, split in (("train_data", "train_split"), ("eval_data", "eval_split")):
        sources = recipe.options.get(key)
        if not sources:
            continue
        if key == "train_data":
            check_public_tests(str(sources), str(recipe.options.get(split, "train")))
        for part in parts_of(str(sources)):
            _check_form(part.source, method, allow_outside=bool(recipe.options.get("allow_outside")))


def _check_form(source: str, method: Method, *, allow_outside: bool) -> None:
    paper = PAPER_SOURCES.get(source.partition("=")[0])
    repository = source.partition("@")[0]
    own_name = next((key for key, of in PAPER_SOURCES.items() if of.repository == repository), None)
    if paper is None and own_name is not None:
        raise UsageError(f"{source} has fields of its own, which are read under the name {own_name}: give that")
    if (paper is not None and paper.method != method) or _KNOWN_FORMS.get(repository, method) != method:
        raise _wrong_method_error(source, method)
    if source in EMBEDDED or paper is not None:
        return
    file = rows_file(Path(source)) if Path(source).exists() else None
    if file is None:  # a table, or on the hub: not read before the training does
        return
    try:
        first_row(source, method, allow_outside=allow_outside)
    except TrainingDataError:
        try:
            first_row(source, _COMMANDS[method], allow_outside=allow_outside)
        except TrainingDataError:
            pass
        else:
            raise _wrong_method_error(source, method) from None
        raise


def _wrong_method_error(source: str, method: Method) -> UsageError:
    other = _COMMANDS[method]
    return UsageError(f"{source} is data for `avar-train {other}`, not for {method}: its rows have {_FORMS[other]}")


def check_attention(name: str | None, device: torch.device | None, dtype: torch.dtype) -> None:
    """Raise UsageError for an attention implementation that no model of this dtype can be loaded with on a device.

    device: None for GPUs that this machine has not: then only the implementation's package is looked for.
    """
    if name is None:
        return
    if device is not None:
        reason = unavailable_reason(name, device, dtype)
    elif is_kernel(resolve_kernel_name(name)):
        needed = f"{resolve_kernel_name(name)} is a kernel of the hub: pip install 'avar-eval[flash]' to fetch it"
        reason = None if is_kernels_available() else needed
    else:
        reason = unavailable_reason(name, torch.device("cuda"), torch.bfloat16)
    if reason is not None:
        raise UsageError(f"attn_implementation {name} cannot be had here: {reason}")


def check_trackers(names: Sequence[str], *, trackio_space: str | None = None, push_to_hub: bool = False) -> None:
    """Raise UsageError for a tracker that is not known, not installed or not logged in to, and for the hub itself.

    trackio_space: the Space that trackio writes to, if it is none of its own environment variable.
    """
    if push_to_hub and not _has_hub_token():
        raise UsageError(f"push_to_hub needs a login at the first checkpoint: {_LOG_IN}, or leave it out")
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UsageError(f"report_to {name} is no tracker: give none, or {', '.join(sorted(_TRACKERS))}")
        package = _TRACKERS.get(name)
        if package is not None and not _is_installed(package):
            raise UsageError(
                f"report_to {name} needs the package {package}, which is not installed: pip install {package}, or set "
                "report_to to none"
            )
        if name == "wandb" and not _is_logged_in_to_wandb():
            raise UsageError(
                "report_to wandb needs a login, and the training would stop to ask for it: run `wandb login`, set "
                "WANDB_API_KEY, or WANDB_MODE=offline to upload later"
            )
        space = trackio_space or os.environ.get("TRACKIO_SPACE_ID")
        if name == "trackio" and space and not _has_hub_token():
            raise UsageError(
                f"report_to trackio writes to the Space {space} of the hub, which needs a login: {_LOG_IN}, or leave "
                "trackio_space_id and TRACKIO_SPACE_ID out to keep the numbers on this machine"
            )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of a parent package
        return False


def _is_logged_in_to_wandb() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].partition("/")[0]
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return netrc.netrc(str(path)).authenticators(host.partition(":")[0]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _has_hub_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None

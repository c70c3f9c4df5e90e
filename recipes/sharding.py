"""What trainers have to mind where processes share a model: FSDP and DeepSpeed.

All processes pass the image encoder in turn, or none does. One that passes it alone waits for the others for ever: for
their part of its weights (FSDP, ZeRO-3) or, if it is trained, of its gradients (ZeRO-1 and 2). DistributedDataParallel
finds out by itself which weights were not used.

The head has to be whole before TRL reads it. TRL 1.16 multiplies by its weights without calling it, and accelerate 1.15
shards it by itself, so that FSDP2 does not know of the multiplication: of the head's gradient each process would keep
its own rows' part, without a word.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from avar_eval.recipes.attention_terms import AttentionTrainingError


def sees_together(trainer: Any) -> bool:
    """Whether a process of this trainer that passes the image encoder waits there for all others."""
    if trainer.is_fsdp_enabled:
        return True
    if not trainer.is_deepspeed_enabled:
        return False
    model = trainer.model
    of_text = {*model.get_decoder().parameters(), *model.get_output_embeddings().parameters()}
    trained = any(parameter.requires_grad for parameter in set(model.parameters()) - of_text)
    return trained or trainer.accelerator.state.deepspeed_plugin.zero_stage == 3


def refuse_uneven_images(trainer: Any, sees: Sequence[bool], *, shuffled: bool = False) -> None:
    """Raise AttentionTrainingError, in all processes, where some alone would pass the image encoder.

    sees: whether there are images in each of the passes to come, as many of them in every process. shuffled: `sees`
    is of rows, and only chance decides which of them pass together.
    """
    if not sees_together(trainer):
        return
    own = torch.tensor([float(image) for image in sees], device=trainer.accelerator.device)
    of_all = trainer.accelerator.gather(own).view(-1, len(sees))
    if bool((of_all != (of_all[0, 0] if shuffled else of_all[0])).any()):
        raise AttentionTrainingError(
            "some processes would pass the image encoder while others have no image, which FSDP and DeepSpeed cannot "
            "run: leave rows without an image out"
        )


def gather_head(model: nn.Module, _: Any) -> None:
    """A forward pre-hook: put a sharded head together, for FSDP2 to spread its gradient over the processes again."""
    head = model.get_output_embeddings()  # type: ignore[operator] # of every model that TRL trains
    if isinstance(head, FSDPModule):
        head.unshard()

"""Masses and their gradients under DistributedDataParallel and FSDP2: two processes over gloo equal one."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from decoders import batch, labels_of, qwen, roles_of
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from avar_eval.attention.objectives import attention_losses
from avar_eval.attention.observe import observe
from avar_eval.attention.roles import Role, TokenRoles

KINDS = ("ddp", "fsdp2")
SHARDS = [roles_of("sssstvvvvvvvtuuuuutrrrrrr"), roles_of("--ssstvvvvvvvtuuuuuttrrrr")]


def loss_of(model: Any, roles: TokenRoles) -> Tensor:
    inputs = batch(roles)
    with observe(model, roles, queries="user", groups=("image", "system")) as observation:
        loss = model(**inputs, labels=labels_of(inputs), use_cache=False).loss
        keys = [roles.mask(role).sum(1) for role in (Role.IMAGE, Role.SYSTEM)]
        queries = observation.query_mask(Role.USER)
        losses = attention_losses(observation.mass("image"), observation.mass("system"), queries, *keys)
        total: Tensor = loss + sum(losses)
        total.backward()  # type: ignore[no-untyped-call]
    return total.detach()


def wrapped(kind: str) -> Any:
    model = qwen().train()
    model.gradient_checkpointing_enable()
    if kind == "ddp":
        for parameter in model.model.visual.parameters():
            parameter.requires_grad_(False)
        return DistributedDataParallel(model)
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for kind in KINDS:
        model = wrapped(kind)
        if kind == "fsdp2":
            sharded = [parameter for parameter in model.parameters() if isinstance(parameter, DTensor)]
            assert sharded
            assert sum(part.to_local().numel() for part in sharded) < 0.6 * sum(part.numel() for part in sharded)
        loss_of(model, SHARDS[rank])
        gradients = {}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                whole = parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad
                gradients[name.removeprefix("module.")] = whole
        if rank == 0:
            torch.save(gradients, f"{folder}/{kind}.pt")
    dist.destroy_process_group()


def test_gradients_of_two_processes_are_the_mean_of_their_shards(tmp_path: Path) -> None:
    mp.spawn(train, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    model = qwen().train()
    for roles in SHARDS:
        loss_of(model, roles)
    wanted = {name: p.grad / 2 for name, p in model.named_parameters() if p.grad is not None}
    for kind in KINDS:
        gradients = torch.load(tmp_path / f"{kind}.pt")
        assert wanted.keys() <= gradients.keys()
        for name, gradient in wanted.items():
            assert torch.allclose(gradients[name], gradient, rtol=1e-4, atol=1e-6), (kind, name)

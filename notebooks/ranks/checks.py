"""What two ranks prove of each other: the ring, the averaged gradients, BatchNorm."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ranks import train
from ranks.nets import make_torch_model
from ranks.norm import SyncNorm
from ranks.ring import ring_all_reduce
from ranks.start import joined


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def average_by_hand(model: nn.Module) -> None:
    """What DistributedDataParallel does to the gradients, without its haste."""
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def shard(values: Tensor) -> Tensor:
    return values[dist.get_rank() :: dist.get_world_size()]


def ring() -> dict[str, Any]:
    """The ring beside the library's own all-reduce, on numbers that differ from rank to rank."""
    values = torch.randn(1003, generator=torch.Generator().manual_seed(dist.get_rank()))
    theirs = values.clone()
    dist.all_reduce(theirs)
    ours, sent = ring_all_reduce(values)
    return {"values": values, "theirs": theirs, "ours": ours, "sent": sent}


def slopes(data: dict, wrap: Callable | None, norm: Callable | None = None) -> dict[str, Any]:
    """The gradients of one batch on this rank, and the statistics after it."""
    model = make_torch_model(norm)
    model.load_state_dict(data["normalised" if norm else "state"])
    outer = wrap(model) if wrap else model
    nn.CrossEntropyLoss()(outer(shard(data["x"])), shard(data["y"])).backward()
    buffers = dict(model.named_buffers())
    return {"gradients": gradients(model), "statistics": buffers, "model": model}


def refusal() -> str:
    """What PyTorch's own synchronised BatchNorm says on a CPU."""
    try:
        nn.SyncBatchNorm(1)(torch.ones(2, 1, 2, 2))
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "it works"


def proofs(data: dict) -> dict[str, Any]:
    """All of this on the first batch, and 20 steps of `ranks.train`; without data, the ring."""
    if not data:
        return {"ring": ring()}
    whole, args = data, train.options().parse_args(["-"])
    data = data | {key: data[key][: args.batch_size] for key in ("x", "y")}
    torch.set_default_dtype(data["x"].dtype)
    found = {"ring": ring(), "refusal": refusal(), "trained": train.train(whole, args)}
    alone = slopes(data, None)
    average_by_hand(alone["model"])
    found |= {"alone": alone["gradients"], "by hand": gradients(alone["model"])}
    found["ddp"] = slopes(data, DistributedDataParallel)["gradients"]
    for name, norm in (("local", nn.BatchNorm2d), ("global", SyncNorm)):
        got = slopes(data, DistributedDataParallel, norm)
        found[name] = {key: got[key] for key in ("gradients", "statistics")}
    return found


def main() -> None:
    data = torch.load(file := Path(sys.argv[1]), weights_only=True)
    with joined(file) as report:
        report(**proofs(data))


if __name__ == "__main__":
    main()

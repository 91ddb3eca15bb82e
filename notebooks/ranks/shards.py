"""Fully sharded: each rank keeps only its part of the weights, the gradients and Adam's memory."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ranks.nets import make_torch_model
from ranks.start import joined


def sharded(model: nn.Sequential) -> nn.Module:
    """Cut every layer's parameters among the ranks, row by row."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def kept(tensors: list[Tensor]) -> int:
    """Bytes of these tensors that lie in this process."""
    here = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    return sum(t.numel() * t.element_size() for t in here)


def adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def steps(data: dict[str, Any]) -> dict[str, Any]:
    torch.set_default_dtype(data["x"].dtype)
    model = make_torch_model()
    model.load_state_dict(data["state"])
    optimizer = adam(sharded(model))
    for x, y in zip(data["x"].split(64), data["y"].split(64), strict=True):
        mine = slice(dist.get_rank(), None, dist.get_world_size())
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(model(x[mine]), y[mine]).backward()
        optimizer.step()
    parameters = dict(model.named_parameters())
    memory = [v for state in optimizer.state.values() for v in state.values() if v.ndim]
    return {
        "state": {name: p.detach().full_tensor() for name, p in parameters.items()},
        "shapes": {name: list(p.to_local().shape) for name, p in parameters.items()},
        "weights": kept(list(parameters.values())),
        "gradients": kept([p.grad for p in parameters.values()]),
        "memory": kept(memory),
    }


def main() -> None:
    file = Path(sys.argv[1])
    with joined(file) as report:
        report(**steps(torch.load(file, weights_only=True)))


if __name__ == "__main__":
    main()

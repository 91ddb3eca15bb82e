"""Train the network of chapter 8 in PyTorch, in as many processes as torchrun starts.

It can be killed at any time: started again with the same command, it goes on from its checkpoint
and ends with the same weights.
"""

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ranks import checkpoint
from ranks.nets import make_torch_model
from ranks.start import joined


def share(n: int, batch_size: int, step: int, seed: int = 0) -> Tensor:
    """The rows of this rank in the global batch of `step`: every p-th one of them.

    An epoch has n // batch_size batches, in an order that depends on seed and epoch alone.
    """
    epoch, batch = divmod(step, n // batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))
    rows = order[batch * batch_size : (batch + 1) * batch_size]
    return rows[dist.get_rank() :: dist.get_world_size()]


def resume(folder: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bring model and optimiser of every rank to the newest checkpoint; the steps done so far."""
    found = [checkpoint.newest(folder) if folder and not dist.get_rank() else None]
    dist.broadcast_object_list(found)  # rank 0 alone reads: all continue from the same state
    if found[0] is None:
        return 0
    model.load_state_dict(found[0]["model"])
    optimizer.load_state_dict(found[0]["optimizer"])
    return found[0]["step"]


def train(data: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """`args.steps` steps on global batches of `args.batch_size`; the weights after them."""
    x, y = data["x"], data["y"]
    torch.set_default_dtype(x.dtype)
    model, loss_fn = make_torch_model(), nn.CrossEntropyLoss()
    model.load_state_dict(data["state"])
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    start = resume(args.checkpoints, model, optimizer)
    ddp = DistributedDataParallel(model)
    losses = []
    for step in range(start, args.steps):
        rows = share(len(x), args.batch_size, step)
        optimizer.zero_grad()
        loss = loss_fn(ddp(x[rows]), y[rows])
        loss.backward()  # the gradients of all ranks are averaged meanwhile
        optimizer.step()
        losses.append(loss.item())
        accident(args, step + 1)
        if args.checkpoints and (step + 1) % args.every == 0 and dist.get_rank() == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoint.save(args.checkpoints, step + 1, state, crash=fatal(args, step + 1, "save"))
    return {"state": model.state_dict(), "start": start, "losses": losses}


def fatal(args: argparse.Namespace, step: int, where: str) -> bool:
    """Whether the accident that the tests ask for is due: once, not after a restart."""
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    return not again and (args.kill, args.kill_in) == (step, where)


def accident(args: argparse.Namespace, step: int) -> None:
    """Kill the last rank, as a machine that fails does: without a word."""
    if fatal(args, step, "step") and dist.get_rank() == dist.get_world_size() - 1:
        os.kill(os.getpid(), signal.SIGKILL)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a file with x, y and the first weights")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32, help="of all ranks together")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--checkpoints", type=Path, help="a folder; none are written without")
    parser.add_argument("--every", type=int, default=5, help="steps between checkpoints")
    parser.add_argument("--kill", type=int, default=0, help="die at this step (for the tests)")
    parser.add_argument("--kill-in", choices=["step", "save"], default="step")
    return parser


def check(args: argparse.Namespace, n: int, ranks: int) -> None:
    if args.batch_size % ranks or not 0 < args.batch_size <= n:
        raise ValueError(
            f"A batch of {args.batch_size} of {n} examples can't be shared among {ranks} ranks: "
            f"give a multiple of {ranks}, at most {n}."
        )
    if args.steps < 1 or args.every < 1:
        raise ValueError(f"--steps {args.steps} and --every {args.every}: give at least 1 of each.")


def main() -> None:
    args = options().parse_args()
    with joined(args.data) as report:
        data = torch.load(args.data, weights_only=True)
        check(args, len(data["x"]), dist.get_world_size())
        report(**train(data, args))


if __name__ == "__main__":
    main()

"""All-reduce in a ring, with nothing but send and receive."""

import torch
import torch.distributed as dist
from torch import Tensor


def ring_all_reduce(values: Tensor) -> tuple[Tensor, int]:
    """The sum of all ranks' `values`, on every rank, and how many bytes this rank sent."""
    rank, p = dist.get_rank(), dist.get_world_size()
    right, left = (rank + 1) % p, (rank - 1) % p
    size = -(-values.numel() // p)  # rounded up: the last chunk is filled with zeros
    chunks = values.new_zeros(p, size)
    chunks.view(-1)[: values.numel()] = values.flatten()
    sent = 0
    for step in range(2 * (p - 1)):
        out, into = (rank - step) % p, (rank - step - 1) % p
        parcel = torch.empty_like(chunks[into])
        sending = dist.isend(chunks[out].clone(), right)
        dist.recv(parcel, left)
        sending.wait()
        if step < p - 1:
            chunks[into] += parcel  # first round: collect
        else:
            chunks[into] = parcel  # second round: hand on what is complete
        sent += parcel.numel() * parcel.element_size()
    return chunks.view(-1)[: values.numel()].view_as(values), sent

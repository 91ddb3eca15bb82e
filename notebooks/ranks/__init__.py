"""The scripts of chapter 16: what runs when several processes train one network.

`launch` starts a script in several processes with `torchrun` and brings back what each of them
reports. The scripts are `checks`, `train`, `keras_train`, `shards` and `cost`; `ring`, `norm`,
`nets` and `checkpoint` are what they share. Nothing here imports PyTorch before it is needed.
"""

from ranks.start import RanksError, command, launch, show

__all__ = ["RanksError", "command", "launch", "show"]

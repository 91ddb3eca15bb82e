"""What chapter 27 needs beside its page: a hand that leans, networks that weigh, energy, a card.

`lean` and `slant` make and measure a way of writing; the chapter shows both. `train` trains many
small networks at once, with a rare group that counts more, is drawn more often, or whose weight
follows its loss. `Meter` reads what the machine says of its energy, or says why it can't. `page`
writes a model card from the results, so that no number in it is typed.
"""

from groups.cards import page, publish, verify
from groups.energy import Meter
from groups.needs import GroupsError
from groups.styles import lean, slant
from groups.training import importance, train

__all__ = [
    "GroupsError",
    "Meter",
    "importance",
    "lean",
    "page",
    "publish",
    "slant",
    "train",
    "verify",
]

"""Chapter 17's prediction service: the app, its start and end, and a load that tries to break it.

`python -m service model.onnx` runs it. `running` does so in a process of its own, on a free port of
this machine; `ask` sends one request, `talk` one written by hand, `provoke` one of the odd ones by
name, `burst` several at once, `load` thousands of all kinds. What serves is in `model` (the file,
its card, the answer), `app` (the guards) and `server` (connections, signals); what tries it, in
`launch`, `load` and `faults`. Nothing here works when imported.
"""

from service.launch import Answer, Service, ServiceError, ask, running, show, talk
from service.load import Figures, burst, kinds, load, provoke

__all__ = [
    "Answer",
    "Figures",
    "Service",
    "ServiceError",
    "ask",
    "burst",
    "kinds",
    "load",
    "provoke",
    "running",
    "show",
    "talk",
]

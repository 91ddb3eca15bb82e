"""Files with a surprise in them. It writes a sentence into note.txt where it is run: no more."""

import json
import zipfile
from pathlib import Path
from typing import Any

SENTENCE = "I ran while you were only loading."
SURPRISE = f"__import__('pathlib').Path('note.txt').write_text({SENTENCE!r})"
NAMED = ("safety.parcels", "leave_note")  # a function that a file can only ask for, by its name


def leave_note(x: Any) -> Any:
    """The surprise as a function of a module, and its argument back."""
    Path("note.txt").write_text(SENTENCE)
    return x


class Parcel:
    """pickle asks an object how to make it again: by a call of `exec` with this text, it says."""

    def __reduce__(self) -> tuple:
        return exec, (SURPRISE,)


def as_lambda() -> Any:
    """The same as a function without a name, which Keras stores as bytecode."""
    return lambda x: (
        __import__("pathlib").Path("note.txt").write_text("I ran while you were only loading."),
        x,
    )[1]


def put_surprise_into(layer: Any) -> None:
    """Exchange a Lambda layer's function, without calling it."""
    layer.function = as_lambda()


def name_function(old: str | Path, new: str | Path, module: str, name: str) -> None:
    """A copy of a .keras file whose first Lambda layer names any function of any module."""
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        for part in source.namelist():
            content = source.read(part)
            if part == "config.json":
                config = json.loads(content)
                for layer in config["config"]["layers"]:
                    if layer["class_name"] == "Lambda":
                        layer["config"]["function"] = {
                            "module": module,
                            "class_name": "function",
                            "config": name,
                            "registered_name": "function",
                        }
                content = json.dumps(config)
            target.writestr(part, content)

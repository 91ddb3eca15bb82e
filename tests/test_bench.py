"""The benchmarks: what is stored follows from the code that is there."""

import json

import measured
import pytest

from tools.bench import store
from tools.bench.__main__ import main

STORED = sorted(path.stem for path in store.MEASURED.glob("*.json"))


@pytest.mark.parametrize("name", STORED)
def test_stored_results_come_from_the_code_that_is_there(name):
    record = measured.load(name)
    assert record["benchmark"] == name and name in store.names()
    assert record["digest"] == store.digest(name), f"run `make bench BENCH={name}`"
    assert record["results"] and record["machine"]["versions"]["torch"]


def test_a_benchmark_that_fails_leaves_the_old_results(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MEASURED", tmp_path)
    (tmp_path / "steps.json").write_text('"old"')

    class Broken:
        @staticmethod
        def run():
            raise RuntimeError("no")

    monkeypatch.setattr(store.importlib, "import_module", lambda name: Broken)
    with pytest.raises(RuntimeError):
        store.run("steps")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"steps.json": '"old"'}


def test_a_result_is_stored_with_its_machine_and_its_code(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MEASURED", tmp_path)

    class Fast:
        @staticmethod
        def run():
            return {"ratio": 2.0}

    monkeypatch.setattr(store.importlib, "import_module", lambda name: Fast)
    record = json.loads(store.run("steps").read_text())
    assert record["results"] == {"ratio": 2.0} and record["digest"] == store.digest("steps")
    assert record["machine"]["threads"] >= 1 and record["machine"]["processor"]


def test_a_digest_follows_the_code(tmp_path, monkeypatch):
    """It changes with the benchmark, with what times it, and with the packages that it imports."""
    tools, chapters = tmp_path / "tools" / "bench", tmp_path / "notebooks"
    (chapters / "race").mkdir(parents=True)
    (chapters / "other").mkdir()
    tools.mkdir(parents=True)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    monkeypatch.setattr(store, "__file__", str(tools / "store.py"))
    files = [tools / "one.py", tools / "interleaved.py", chapters / "race" / "__init__.py"]
    for path in [*files, chapters / "other" / "__init__.py"]:
        path.write_text("import race\n")
    before = store.digest("one")
    (chapters / "other" / "__init__.py").write_text("")
    assert store.digest("one") == before
    for path in files:
        path.write_text("import race  # changed\n")
        before, last = store.digest("one"), before
        assert before != last, path


def test_what_is_not_there_is_said_in_one_sentence(capsys):
    assert main(["speed of light"]) == 1
    assert "no benchmark 'speed of light': choose from" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="run `make bench BENCH=nothing`"):
        measured.load("nothing")

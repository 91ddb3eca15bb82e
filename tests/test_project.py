"""The promises that the project's own files make to each other."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.bench import interleave, steps, table

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def requirements():
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    optional = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(entry for extra in optional for entry in extra)]
    named += [entry for group in groups.values() for entry in group if isinstance(entry, str)]
    return [Requirement(text) for text in named]


def test_every_exact_version_lies_in_its_range():
    versions = {canonicalize_name(name): version for name, version in pinned().items()}
    for requirement in requirements():
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_the_book_group_needs_neither_framework():
    named = {Requirement(text).name for text in PROJECT["dependency-groups"]["book"]}
    assert not named & {"torch", "keras", "numpy", "scikit-learn"}


def test_conda_gets_its_packages_from_the_project():
    text = (ROOT / "environment.yml").read_text()
    assert "--constraint constraints.txt" in text and "--editable .[lab,ship]" in text
    packages = {requirement.name for requirement in requirements()}
    assert not packages & set(re.findall(r"^\s*- ([\w-]+)", text, re.MULTILINE))


def test_make_alone_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[1]: line for line in shown.splitlines() if line.startswith("  make ")}
    assert set(listed) == targets
    assert {"help", "book", "lab", "notebooks", "test", "lint", "bench", "clean"} <= targets
    assert all(len(line.split()) > 3 for line in listed.values())


@pytest.mark.parametrize(
    ("given", "exported"),
    [
        ("/srv/class room", "/srv/class room"),
        ("~/data", "~/data"),
        ("", ""),
        ("here", f"{ROOT}/here"),
    ],
)
def test_make_hands_on_the_data_folder_as_an_absolute_path(given, exported):
    """Kernels start in another folder; names may hold spaces."""
    probe = 'probe: ; @printf "BOOK_DATA is [%s]" "$$BOOK_DATA"'
    run = subprocess.run(
        ["make", "--eval", probe, "probe"],
        cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"BOOK_DATA": given},
    )  # fmt: skip
    assert f"BOOK_DATA is [{exported}]" in run.stdout


def test_every_command_of_the_readme_exists():
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    used = set(
        re.findall(r"\bmake ([a-z-]+)", "\n".join(re.findall(r"```.*?```|`.*?`", text, re.S)))
    )
    assert used and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in used)


def test_ci_calls_the_readmes_commands_and_github_calls_ci():
    script = (ROOT / ".ci" / "run").read_text()
    for target in ("lint", "test", "test-offline", "test-rounding", "book", "test-browser"):
        assert re.search(rf"^[^#]*\bmake {target}( CHAPTERS=.*)?$", script, re.MULTILINE), target
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "book.yml").read_text()


def test_versions_are_stated_alike():
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_importing_the_helpers_does_no_work():
    """Neither framework is loaded by the package, nor by its rooms for data and devices."""
    code = (
        "import sys; from helpers import data, device, plots;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'keras', 'matplotlib', 'sklearn')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_links_between_the_projects_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not re.match(r"[a-z]+:", link):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_bench_takes_turns_and_compares_within_a_round():
    calls = []
    variants = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = interleave(variants, rounds=3)
    assert calls == ["a", "b", "b", "a"] * 2  # one round to warm up; none is always first
    assert [len(times) for times in seconds.values()] == [3, 3]
    text = table({"one": [1.0, 2.0, 4.0], "double": [2.0, 4.0, 8.0]})
    assert re.search(r"one +1\.00  \(1\.00 to 1\.00\)", text)
    assert re.search(r"double +2\.00  \(2\.00 to 2\.00\)", text)


@pytest.mark.parametrize("network", ["dense", "convolutional"])
def test_bench_trains_one_network_in_every_way(network):
    """A ratio compares equal work: one step of each, on the same batch, and no warning."""
    from helpers import parity  # not above: it imports Keras, and the book alone has none

    rng = np.random.default_rng(0)
    make_keras, make_torch = getattr(steps, f"{network}_twins")()
    keras_model, torch_model = make_keras("channels_last"), make_torch()
    parity.copy_weights(keras_model, torch_model)
    report = parity.compare(keras_model, torch_model, rng.normal(size=(4, 28, 28, 1)))
    assert report.ok, report
    assert keras_model.count_params() == {"dense": 55_050, "convolutional": 121_930}[network]
    variants = getattr(steps, f"step_of_the_{network}_network")(steps=1)
    histories = [variant() for variant in variants.values()]
    kept = [sorted(history.history) for history in histories if history is not None]
    assert kept == [["loss"], ["accuracy", "loss"]] * 2 + [["loss"]] * (network != "dense")

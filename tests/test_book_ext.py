"""The book's own Sphinx extensions, as far as they need no Sphinx."""

import subprocess
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest

EXT = Path(__file__).resolve().parent.parent / "book" / "_ext"


def load(name: str):
    """An extension, which Sphinx loads by its path."""
    spec = util.spec_from_file_location(name, EXT / f"{name}.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


helpers_page, remote, stamp = load("helpers_page"), load("remote"), load("stamp")
page_ext, rosetta = load("page"), load("rosetta")


def test_the_ledgers_links_lead_to_pages() -> None:
    row = '<td><a href="08_convolution.ipynb">8</a> or <a href="data.ipynb">a notebook</a></td>'
    for table, link in (("findable ledger", "08_convolution.html"), ("", "08_convolution.ipynb")):
        context = {"body": f'<table class="{table}">{row}</table>'}
        page_ext.lead_to_pages(None, "13_defaults", "", context, None)
        assert f'<a href="{link}">8</a>' in context["body"]
        assert '<a href="data.ipynb">' in context["body"]


def test_so_do_links_to_a_section_by_its_id_on_the_page() -> None:
    slugs = {"the-race-to-99-": (2, "the-race-to-99", "The race to 99 %")}
    env = SimpleNamespace(metadata={"notebooks/14_speed": {"myst_slugs": slugs}})
    for slug, there in (("the-race-to-99-", "the-race-to-99"), ("threads", "threads")):
        link = f'<a href="14_speed.ipynb#{slug}">14</a>'
        context = {"body": f'<table class="ledger"><td>{link}</td></table>'}
        page_ext.lead_to_pages(SimpleNamespace(env=env), "28_which", "", context, None)
        assert f'<a href="14_speed.html#{there}">14</a>' in context["body"]


# --------------------------------------------------------------------------------- the remote

HUB = "https://github.com/owner/name"


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/owner/name.git", HUB),
        ("https://github.com/owner/name", HUB),
        ("https://github.com/owner/name/", HUB),
        ("http://www.github.com/owner/name.git/", HUB),
        ("git@github.com:owner/name.git", HUB),
        ("github.com:owner/name.git", HUB),
        ("ssh://git@github.com/owner/name.git", HUB),
        ("ssh://git@ssh.github.com:443/owner/name.git", HUB),
        ("git://github.com/owner/name.git", HUB),
        ("https://user:secret@github.com/owner/name.git", HUB),
        ("https://secret@github.com:8443/owner/name.git", HUB),
        ("git@gitlab.com:group/part/name.git", "https://gitlab.com/group/part/name"),
        ("https://gitlab.example.org/owner/name.git", "https://gitlab.example.org/owner/name"),
        ("https://bitbucket.org/owner/name.git", "https://bitbucket.org/owner/name"),
    ],
)
def test_remote_becomes_its_page(url: str, page: str) -> None:
    assert remote.parse(url).url == page


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/git/name.git",
        "../name",
        "name",
        "file:///srv/git/name.git",
        "C:/class/name",
        r"C:\class\name",
        "https://example.org/owner/name.git",
        "https://mygithub.com.example.org/name",
        "https://github.com/owner",
        "https://github.com/owner/na me",
        "javascript://github.com/owner/name",
        "user@host:name.git",
    ],
)
def test_other_remotes_give_nothing(url: str) -> None:
    assert remote.parse(url) is None


def test_credentials_are_never_shown() -> None:
    for url in ("https://user:secret@github.com/o/n.git", "ssh://user:secret@github.com/o/n.git"):
        found = remote.parse(url)
        assert "secret" not in repr(remote.theme_options(found, "main"))
        assert "user" not in found.url


@pytest.mark.parametrize(
    ("url", "launch"),
    [
        ("git@github.com:owner/name.git", {"binderhub_url"}),
        ("git@gitlab.com:owner/name.git", {"binderhub_url"}),
        ("git@gitlab.example.org:owner/name.git", set()),
    ],
)
def test_buttons_are_those_that_can_work(url: str, launch: set[str]) -> None:
    options = remote.theme_options(remote.parse(url), "main")
    assert options["use_repository_button"]
    assert {key for key in options["launch_buttons"] if key.endswith("_url")} == launch


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True)


def test_buttons_follow_from_the_repository(tmp_path: Path) -> None:
    assert remote.find(tmp_path) is None  # no repository
    git(tmp_path, "init", "-b", "trunk")
    assert remote.find(tmp_path) is None  # no remote
    git(tmp_path, "remote", "add", "origin", "https://user:secret@github.com/owner/name.git")
    found, branch = remote.find(tmp_path)
    assert (found.url, branch) == (HUB, "trunk")
    inside = tmp_path / "unpacked"
    inside.mkdir()
    assert remote.find(inside) is None  # another book's repository
    git(tmp_path, "remote", "set-url", "origin", str(tmp_path))
    assert remote.find(tmp_path) is None  # a path


def test_no_git_means_no_buttons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert remote.find(tmp_path) is None


# ---------------------------------------------------------------------------------- the stamp

STAMP = {
    "digest": "1a2b3c4d5e6f",
    "versions": {"python": "3.11.7", "keras": "3.15.1", "torch": "2.13.0+cpu", "numpy": "2.4.6"},
    "device": "cpu",
    "seconds": 12.3,
}
VERSIONS = "Last run with Python 3.11.7, Keras 3.15.1, PyTorch 2.13.0, NumPy 2.4.6"


def test_stamp_in_words() -> None:
    assert stamp.stamp_text(STAMP) == f"{VERSIONS} on the CPU in 12 s."
    short = {**STAMP, "device": "cuda", "seconds": 0.2}
    assert stamp.stamp_text(short) == f"{VERSIONS} on an NVIDIA GPU in less than a second."


@pytest.mark.parametrize("missing", ["versions", "device", "seconds"])
def test_half_a_stamp_is_none(missing: str) -> None:
    with pytest.raises(KeyError):
        stamp.stamp_text({key: value for key, value in STAMP.items() if key != missing})


# ------------------------------------------------------------------------- the helpers' page

MODULE = '''"""A module."""

__all__ = ["LIMIT", "Box", "double"]

LIMIT: int = 3
"""How many."""


class Box:
    """A box."""

    size: int = 0

    def grow(self, by: "int" = 1, *, twice: bool = False) -> None:
        """Make it larger."""

    def _hidden(self):
        pass


def double(x, /, *rest: float, **options) -> "list[int]":
    """Twice as much.

    >>> double(2)
    4

    That is all.
    """
'''


def test_module_page_shows_what_is_public() -> None:
    page = helpers_page.module_page(MODULE, "helpers.thing")
    for part in (
        "## `helpers.thing`",
        "A module.",
        "LIMIT = 3",
        "How many.",
        "class Box:\n    size: int = 0",
        "Box.grow(by: int = 1, *, twice: bool = False) -> None",
        "Make it larger.",
        "double(x, /, *rest: float, **options) -> list[int]",
        "```pycon\n>>> double(2)\n4\n```",
        "That is all.",
    ):
        assert part in page, part
    assert "_hidden" not in page


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ('    """A box."""\n', "helpers.thing.Box "),
        ('        """Make it larger."""\n', "helpers.thing.Box.grow "),
        ('"""A module."""\n', "helpers.thing "),
        ('"""How many."""\n', "helpers.thing.LIMIT "),
    ],
)
def test_missing_docstring_fails_the_build(lost: str, named: str) -> None:
    source = MODULE.replace(lost, lost.replace(lost.strip(), "0"))
    with pytest.raises(helpers_page.MissingDocstring, match=named):
        helpers_page.module_page(source, "helpers.thing")


def test_name_that_is_not_defined_fails_the_build() -> None:
    with pytest.raises(helpers_page.MissingDocstring, match="lost"):
        helpers_page.module_page('"""A module."""\n__all__ = ["lost"]\n', "helpers.thing")


def test_page_of_the_package_holds_each_module() -> None:
    page = helpers_page.package_page(EXT.parent.parent / "helpers")
    for path in sorted((EXT.parent.parent / "helpers").glob("[!_]*.py")):
        assert f"## `helpers.{path.stem}`" in page


def test_a_name_borrowed_from_another_module_points_there() -> None:
    source = '"""A module."""\nfrom helpers.other import thing\n\n__all__ = ["thing"]\n'
    page = helpers_page.module_page(source, "helpers.this")
    assert "### `thing`\n\nThe same as in `helpers.other`." in page
    with pytest.raises(helpers_page.MissingDocstring, match="does not define it"):
        helpers_page.module_page(source.replace("helpers.other", "numpy"), "helpers.this")


# ------------------------------------------------------------------------------- Rosetta

TOPIC = """
topic = "Layers"
about = "All of them."
setup = "x = 1"

[[row]]
task = "A dense layer"
setup = "n = 3"
keras = "layer = layers.Dense(3)"
torch = "layer = nn.Linear(6, 3)"
carry = "copy_weights(k.layer, t.layer)"
same = ["layer(x)", "layer(x.mT)"]
note = "They turn it round."
chapter = "01_concepts: One layer: $y = f(x)$"

[[row]]
task = "Use it"
keras = '''
y = ops.relu(layers.Dense(3)(x))
z = y.sum() + np.pi + self.scale
'''
torch = '''
y = F.relu(nn.Linear(6, 3)(x))
z = y.sum()
'''
same = "z"
chapter = "02_activations: Eight bends"
"""


@pytest.fixture
def topic(tmp_path: Path):
    """A topic of two rows, of whose chapters one exists."""
    (tmp_path / "01_concepts.ipynb").touch()
    path = tmp_path / "01_layers.toml"
    path.write_text(TOPIC)
    return rosetta.read_topic(path)


def test_a_topic_is_read_with_what_its_rows_share(topic) -> None:
    first, second = topic.rows
    assert (first.task, first.topic, first.shared) == ("A dense layer", "Layers", "x = 1")
    assert first.same == ("layer(x)", "layer(x.mT)")
    assert second.same == ("z", "z")
    assert second.keras.startswith("y =") and second.keras.count("\n") == 1


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ('same = "z"', "", "Use it.*same"),
        ('task = "Use it"', 'task = "Use it"\ncolour = "red"', "Use it.*colour"),
        ("nn.Linear(6, 3)", "nn.Linear(6, 3", "A dense layer"),
    ],
)
def test_a_row_that_cant_be_shown_is_named(tmp_path, right, wrong, named) -> None:
    path = tmp_path / "topic.toml"
    path.write_text(TOPIC.replace(right, wrong, 1))
    with pytest.raises(rosetta.RowError, match=named):
        rosetta.read_topic(path)


def test_row_page_shows_task_code_note_and_chapter(topic, tmp_path: Path) -> None:
    page = rosetta.topic_page(topic, tmp_path)
    for part in (
        "## Layers\n\nAll of them.",
        "### A dense layer",
        ":::{twins}\n```python\nlayer = layers.Dense(3)\n```\n\n```python\nlayer = nn.Linear(6, 3)",
        "They turn it round.",
        "[Chapter 1: One layer: $y = f(x)$](../notebooks/01_concepts.ipynb#one-layer-)",
        "\n\nChapter 2: Eight bends\n\n",  # it doesn't exist, so no link
        'data-find="keras.layers.Dense torch.nn.Linear"',
        "n = 3\n",
        "copy_weights(k.layer, t.layer)",
        "layer(x)\nlayer(x.mT)",
    ):
        assert part in page, part


def test_names_are_those_of_the_frameworks(topic) -> None:
    assert rosetta.names(topic.rows[1].keras) == [
        (1, "layers.Dense"),
        (1, "ops.relu"),
        (2, ".sum()"),
    ]
    assert rosetta.names("class A(nn.Module):\n    def forward(self, x): ...") == [
        (1, "nn.Module"),
        (2, ".forward()"),
    ]
    assert rosetta.full("F.relu") == "torch.nn.functional.relu"
    assert rosetta.full(".sum()") == ".sum()"


def test_the_index_answers_line_by_line(topic) -> None:
    found = rosetta.index(topic.rows, "keras")
    assert list(found) == ["layers.Dense", "ops.relu", ".sum()"]
    assert found["layers.Dense"][0][0] == "nn.Linear"
    assert found["layers.Dense"][1] == topic.rows
    assert found[".sum()"][0] == [".sum()"]
    back = rosetta.index(topic.rows, "torch")
    assert back["nn.Linear"][0][0] == "layers.Dense"
    page = rosetta.index_page(topic.rows, "keras")
    assert "## By Keras name" in page
    assert "| `.sum()` | `.sum()` | [Use it](#use-it) |" in page
    many = rosetta.index_page(topic.rows * 2, "keras")
    assert '<a href="?find=layers.Dense">all 4</a>' in many

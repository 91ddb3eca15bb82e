"""The bibliography: each entry is whole and cited, each mention has its entry."""

import json
import re
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = util.spec_from_file_location("checked", ROOT / "book" / "_ext" / "checked.py")
checked = util.module_from_spec(spec)
spec.loader.exec_module(checked)

BIB = (ROOT / "book" / "references.bib").read_text(encoding="utf8")
NEEDED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "book": {"author", "title", "publisher", "year"},
    "techreport": {"author", "title", "institution", "year"},
    "misc": {"author", "title", "year"},
}
DOI = re.compile(r"10\.\d{4,9}/[^\s{}\\<>]+")
URL = re.compile(r"https://[^\s{}\\]+")


def parse(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Kind, key and fields of each entry: one field a line, its value in braces."""
    entries = []
    for block in re.split(r"\n(?=@)", text.strip()):
        lines = block.strip().splitlines()
        head = re.fullmatch(r"@(\w+)\{(\w+),", lines[0])
        assert head and lines[-1] == "}", f"not an entry: {block[:60]!r}"
        fields = {}
        for line in lines[1:-1]:
            field = re.fullmatch(r"\s+(\w+)\s*= \{(.+)\},", line)
            assert field, f"{head[2]}: {line!r}"
            assert field[1] not in fields, f"{head[2]}: {field[1]} twice"
            fields[field[1]] = field[2]
        entries.append((head[1], head[2], fields))
    return entries


ENTRIES = parse(BIB)
KEYS = [key for _, key, _ in ENTRIES]


def surnames(authors: str) -> list[str]:
    """Last names, in their order; `others` is none."""
    people = [person.split(",")[0].strip("{} ") for person in authors.split(" and ")]
    return [person for person in people if person != "others"]


def test_entries_are_sorted_and_none_is_there_twice() -> None:
    assert sorted(KEYS) == KEYS
    assert len(set(KEYS)) == len(KEYS)
    titles = [re.sub(r"[^a-z]", "", fields["title"].lower()) for _, _, fields in ENTRIES]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(("kind", "key", "fields"), ENTRIES, ids=KEYS)
def test_entry_is_whole(kind, key, fields) -> None:
    assert NEEDED[kind] <= set(fields), f"lacks {sorted(NEEDED[kind] - set(fields))}"
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    for person in fields["author"].split(" and "):
        assert ", " in person or person == "others" or re.fullmatch(r"\{.+\}", person), person
    for name, value in fields.items():
        assert value.count("{") == value.count("}"), name
        if name in ("title", "author", "journal", "booktitle"):
            assert not re.search(r"[\\$~^]|``|''|\{\{", value), f"TeX: {value}"
    if not key.startswith("rfc"):
        first = surnames(fields["author"])[0].lower().split()[-1].replace("ü", "ue")
        assert key.startswith(first.translate(str.maketrans("éöçł", "eocl"))), first
        assert fields["year"] in key


@pytest.mark.parametrize(("kind", "key", "fields"), ENTRIES, ids=KEYS)
def test_identifiers_have_their_form(kind, key, fields) -> None:
    if "doi" in fields:
        assert DOI.fullmatch(fields["doi"])
    if "url" in fields:
        assert URL.fullmatch(fields["url"])
        assert "arxiv.org" not in fields["url"], "as eprint, without the rest"
        assert "doi.org" not in fields["url"], "as doi, without the rest"
    assert ("eprint" in fields) == (fields.get("archiveprefix") == "arXiv")
    if "eprint" in fields:
        number = checked.ARXIV.fullmatch(fields["eprint"])
        assert number, fields["eprint"]
        # a preprint comes first, by two years at most: a paper that waited for its journal
        assert 0 <= int(fields["year"]) - (2000 + int(number[1])) <= 2
    if kind == "misc":
        assert {"eprint", "url", "howpublished"} & set(fields), "where is it?"
    if "pages" in fields:
        first, _, last = fields["pages"].partition("--")
        assert not last or int(first) < int(last), fields["pages"]


# --------------------------------------------------------------------------------- mentions


def prose(path: Path) -> str:
    """The Markdown of a page or a chapter, in one line."""
    text = path.read_text(encoding="utf8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"\s+", " ", text)


PAGES = sorted([*(ROOT / "notebooks").glob("[0-9]*.ipynb"), *(ROOT / "book").glob("*.md")])
LINK = re.compile(r"(\w*)['’\w* (]*\[([^\[\]]+)\]\((?:\.\./book/)?bibliography\.md[^)]*\)")


def mentions() -> list[tuple[str, str]]:
    """Each link to the bibliography that names a year, with the page it stands on.

    A year alone, as in "Nesterov's variant ([1983](...))", is read with the words before it.
    """
    found = []
    for path in PAGES:
        text = prose(path)
        for match in LINK.finditer(text):
            words = match[2]
            if re.fullmatch(r"\(?\d{4}\)?", words.strip()):
                words = f"{text[max(0, match.start() - 60) : match.start(2)]} {words}"
            if re.search(r"\b(19|20)\d\d\b", words):
                found.append((path.name, words))
    return found


def named(words: str) -> list[str]:
    """The entries that a mention may mean, by year and names, given names where it has any.

    Of namesakes in one year it is the one whose key has no letter, unless a name tells them apart.
    """
    year = re.findall(r"\b(?:19|20)\d\d\b", words)[-1]
    keys = []
    for _, key, fields in ENTRIES:
        first = surnames(fields["author"])[0]
        if fields["year"] != year or not re.search(rf"\b{re.escape(first)}\b", words):
            continue
        others = set(re.findall(r"[A-Z]\w+", re.sub(r"\bet al\b.*", "", words)))
        if len(words) < 60 and others - set(re.findall(r"\w+", fields["author"])):
            continue  # another first author's namesake
        keys.append(key)
    plain = [key for key in keys if key.endswith(year)]
    return plain if len(plain) == 1 else keys


MENTIONS = mentions()


def test_each_mention_has_its_entry() -> None:
    assert len(MENTIONS) > 100
    lost = [f"{page}: {words}" for page, words in MENTIONS if len(named(words)) != 1]
    assert not lost, "\n".join(lost)


def test_each_entry_is_named_by_a_chapter_or_a_page() -> None:
    cited = {key for _, words in MENTIONS for key in named(words)}
    assert not set(KEYS) - cited, sorted(set(KEYS) - cited)


def test_a_mention_is_read_as_it_is_written() -> None:
    assert named("Kingma & Ba (2015)") == ["kingma2015"]
    assert named("Kingma & Ba (2014)") == []
    assert named("Kingman & Ba (2015)") == []
    assert named("Northcutt, Jiang and Chuang (2021)") == ["northcutt2021b"]
    assert named("Northcutt, Athalye & Mueller (2021)") == ["northcutt2021"]
    assert named("Nesterov's variant ( 1983") == ["nesterov1983"]
    assert named("Li et al. (2020)") == named("Shen Li et al. (2020)") == ["li2020"]
    assert named("Liam Liar et al. (2020)") == []


# ----------------------------------------------------------------------- the articles' list

WORKS = checked.read(ROOT / "book" / "checked.toml")


def test_the_list_comes_to_what_the_page_says() -> None:
    text = checked.counts(WORKS)
    figures = [int(n) for n in re.findall(r"\d+", text)]
    entries, again, works, right, wrong, *kinds, sound, of = figures
    assert entries == of == sum(len(work["numbers"]) for work in WORKS)
    assert again + works == entries
    assert right + wrong == works == len(WORKS)
    assert sum(kinds) == wrong
    assert sound == sum(len(w["numbers"]) for w in WORKS if w["verdict"] == "right")


def test_numbers_of_the_list_agree_with_ours() -> None:
    """A work that both have has one number."""
    ours = {fields["eprint"]: fields["title"] for _, _, fields in ENTRIES if "eprint" in fields}
    both = [work for work in WORKS if work.get("arxiv") in ours]
    assert len(both) >= 4
    for work in both:
        plain = re.sub(r"[{}]|--", "", ours[work["arxiv"]]).lower().split(":")[0]
        assert plain.split()[0] in work["work"].lower(), work["work"]
    numbers = [work["arxiv"] for work in WORKS if "arxiv" in work]
    assert len(set(numbers)) == len(numbers)


def test_the_table_has_a_row_for_each_work() -> None:
    table = checked.table(WORKS)
    assert table.count("<tr data-topic") == len(WORKS)
    for work in WORKS:
        if "arxiv" in work:
            assert f'href="https://arxiv.org/abs/{work["arxiv"]}"' in table
    page = (ROOT / "book" / "bibliography.md").read_text(encoding="utf8")
    assert page.count("<!-- checked -->") == page.count("<!-- counts -->") == 1


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ("numbers = [1]", "numbers = [2]", "each of 54"),
        ("numbers = [16]", "numbers = [16, 55]", "each of 54"),
        ('verdict = "invented"', 'verdict = "fake"', "fake"),
        ('known = "looked up"', 'known = "of course"', "of course"),
        ('arxiv = "1409.1556"', 'arxiv = "1413.1556"', "1413.1556"),
        ('verdict = "right"', 'verdict = "invented"', "says something else"),
        ("says =", "said =", "said"),
    ],
)
def test_a_false_list_is_refused(right, wrong, why, tmp_path) -> None:
    text = (ROOT / "book" / "checked.toml").read_text(encoding="utf8")
    assert right in text
    path = tmp_path / "checked.toml"
    path.write_text(text.replace(right, wrong, 1), encoding="utf8")
    with pytest.raises(ValueError, match=why):
        checked.read(path)

"""Questions and answers: each has an answer, a section that shows it, and links that lead there."""

import re
from pathlib import Path

import pytest
from choosing import pages

PAGE = Path(__file__).parents[1] / "book" / "questions.md"
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
TRACKER = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+)/(issues|pull)/(\d+)")


def questions():
    """Each question with its answer."""
    parts = re.split(r"(?m)^### +(.+)$", PAGE.read_text("utf-8"))[1:]
    return [
        (title, re.split(r"(?m)^## ", answer)[0].strip())
        for title, answer in zip(parts[::2], parts[1::2], strict=True)
    ]


QUESTIONS = questions()
LINKS = LINK.findall(PAGE.read_text("utf-8"))


def test_there_are_thirty_to_fifty_each_asked_once_and_answered_shortly():
    titles = [title for title, _ in QUESTIONS]
    assert 30 <= len(titles) == len(set(titles)) <= 50
    for title, answer in QUESTIONS:
        assert title.endswith(("?", "Why?")) or "?" in title, title
        words = LINK.sub(r"\1", answer).split()
        assert 12 <= len(words) <= 90, f"{title}: {len(words)} words"


@pytest.mark.parametrize(("title", "answer"), QUESTIONS, ids=[title for title, _ in QUESTIONS])
def test_each_is_linked_to_a_section_that_shows_it(title, answer):
    targets = [target for _, target in LINK.findall(answer)]
    assert any(re.match(r"\.\./notebooks/\d\d_\w+\.ipynb#", target) for target in targets), title


@pytest.mark.parametrize("target", sorted({target for _, target in LINKS}))
def test_each_link_leads_to_something(target):
    if target.startswith("http"):
        assert TRACKER.fullmatch(target), f"{target} is no thread of an issue tracker"
        return
    path, _, anchor = target.partition("#")
    file = (PAGE.parent / path).resolve()
    assert file.is_file(), f"there is no {path}"
    assert not anchor or anchor in pages.anchors(file), f"{path} has no heading {anchor}"


@pytest.mark.parametrize("words, target", LINKS)
def test_the_words_of_a_thread_are_its_repository_and_its_number(words, target):
    if match := TRACKER.fullmatch(target):
        assert words == f"{match[2]} {match[4]}"


@pytest.mark.parametrize("title, answer", QUESTIONS, ids=[title for title, _ in QUESTIONS])
def test_a_number_in_an_answer_stands_in_a_linked_chapter(title, answer):
    plain = re.sub(r"`[^`]*`", "", LINK.sub("", answer))
    linked = [t.split("#")[0] for _, t in LINK.findall(answer) if t.startswith("../notebooks")]
    texts = " ".join((PAGE.parent / path).read_text("utf-8") for path in linked)
    for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", plain):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", texts), f"{title}: {number}"

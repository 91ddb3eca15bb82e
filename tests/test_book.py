"""The rendered book in a real browser: `make test-browser` builds it and runs these."""

import base64
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import util
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "book" / "_build" / "html"
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if not path.relative_to(SITE).parts[0].startswith("_")
)
READ = [page for page in PAGES if page != "index.html"]  # that one only leads to the front page
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built book."""
    if not READ:
        pytest.fail("The book is not built: run `make book` first.")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not path:
        pytest.fail("No Chromium here: install it (Debian: apt install chromium) or set CHROMIUM.")
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=path, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A reader with a wide screen, in the light, who was never here."""
    made = browser.new_context(viewport=WIDE, color_scheme="light")
    yield made
    made.close()


@pytest.fixture
def chapter(site: str) -> str:
    """The address of the first chapter that has twins and a folded solution."""
    for page in CHAPTERS:
        text = (SITE / page).read_text(encoding="utf8")
        if 'class="twins"' in text and 'class="solution"' in text:
            return site + page
    pytest.fail("No chapter has twins and a solution.")


def opened(context: BrowserContext, url: str) -> Page:
    """A new tab on that page, with its formulas set."""
    page = context.new_page()
    page.goto(url)
    settle(page)
    return page


def settle(page: Page) -> None:
    """Wait until the formulas and the images stand."""
    page.evaluate(
        """async () => {
          const until = Date.now() + 10000, wait = () => new Promise((r) => setTimeout(r, 20));
          while (document.querySelector(".math") && Date.now() < until) {
            if (window.MathJax?.startup?.promise) { await MathJax.startup.promise; break; }
            await wait();
          }
          await Promise.all([...document.images].map((image) => image.decode().catch(() => 0)));
        }"""
    )


# ---------------------------------------------------------------- every page, width and theme

PROBLEMS = """() => {
  const out = [], all = (query, from = document) => [...from.querySelectorAll(query)];
  const shown = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length;
  const scroller = document.scrollingElement;
  if (scroller.scrollWidth > innerWidth) {
    out.push(`the page is ${scroller.scrollWidth} px wide in a window of ${innerWidth}`);
  }
  const entries = all(".search-button__button, form.bd-search").filter(shown);
  if (entries.length !== 1) out.push(`${entries.length} search boxes`);
  const titles = all("h1");
  if (titles.length !== 1 || !shown(titles[0])) out.push(`${titles.length} titles`);
  if (document.documentElement.lang !== "en") out.push("no language");
  if (all("details.solution[open]").length) out.push("a solution stands open");
  for (const fold of all("details")) fold.open = true;
  for (const image of document.images) {
    if (!image.alt.trim()) out.push(`no alt text: ${image.src}`);
    if (!image.naturalWidth) out.push(`not loaded: ${image.src}`);
    const box = image.getBoundingClientRect();
    if (box.width > image.naturalWidth + 1) out.push(`drawn too large: ${image.src}`);
  }
  for (const math of all(".math")) {
    if (!math.querySelector("mjx-container")) out.push(`not typeset: ${math.textContent}`);
  }
  for (const error of all("mjx-merror")) out.push(`formula: ${error.textContent}`);
  for (const button of all("button, a[href], input, summary")) {
    const name = button.textContent.trim() || button.ariaLabel || button.title
      || button.labels?.length;
    if (shown(button) && !name) out.push(`no name: ${button.outerHTML.slice(0, 80)}`);
  }

  /* the contrast of every piece of text with what lies behind it */
  const parse = (css) => {
    const n = css.match(/[\\d.]+/g).map(Number);
    return css.startsWith("color(srgb") ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1]
      : [n[0], n[1], n[2], n[3] ?? 1];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour[3]) layers.push(colour);
      if (colour[3] === 1) break;
    }
    const last = document.documentElement.dataset.theme === "dark" ? 0 : 255;
    return layers.reverse().reduce((under, top) => over(top, under), [last, last, last]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const seen = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const raw = /\\$|\\\\\\(|\\\\\\[/;
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, text = node.data.trim();
    if (!text || !shown(element) || element.closest("script, style, noscript")) continue;
    const code = element.closest("pre, code, mjx-container");
    if (!code && raw.test(text)) out.push(`raw TeX: ${text}`);
    const style = getComputedStyle(element), colour = parse(style.color);
    for (let e = element; e; e = e.parentElement) colour[3] *= getComputedStyle(e).opacity;
    const back = behind(element), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const got = ratio(over(colour, back), back);
    const key = `${element.className} ${style.color} ${back}`;
    if (got < (large ? 3 : 4.5) && !seen.has(key)) {
      seen.add(key);
      const place = `${element.tagName}.${element.className}`;
      out.push(`contrast ${got.toFixed(2)} of "${text.slice(0, 30)}" (${place})`);
    }
  }
  for (const half of all(".twin").filter(shown)) {
    const edge = parse(getComputedStyle(half).borderTopColor);
    const got = ratio(over(edge, behind(half.parentElement)), behind(half.parentElement));
    if (got < 3) out.push(`a framework's border has contrast ${got.toFixed(2)}`);
  }
  return out;
}"""


@pytest.mark.parametrize("page_name", READ or ["the book"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_page(browser: Browser, site: str, page_name: str, theme: str, width: int) -> None:
    """No page errs, asks another host, overflows, or is hard to read, at any width and theme."""
    found: list[str] = []
    viewport = WIDE if width == WIDE["width"] else NARROW
    context = browser.new_context(viewport=viewport, color_scheme=theme)

    def see(route) -> None:
        url = route.request.url
        if url.startswith((site, "data:", "blob:")):
            route.continue_()
        else:
            found.append(f"asked another host: {url}")
            route.abort()

    context.route("**/*", see)
    page = context.new_page()
    page.on("console", lambda m: m.type in ("error", "warning") and found.append(f"log: {m.text}"))
    page.on("pageerror", lambda error: found.append(f"script: {error}"))
    page.on("requestfailed", lambda request: found.append(f"failed: {request.url}"))
    page.on("response", lambda r: r.status >= 400 and found.append(f"{r.status}: {r.url}"))
    try:
        page.goto(site + page_name)
        settle(page)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        found += page.evaluate(PROBLEMS)
    finally:
        context.close()
    assert not found, "\n".join([f"{page_name}, {width} px, {theme}:", *found])


class Outline(HTMLParser):
    """The ids and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        for name in ("href", "src"):
            self.links += [values[name]] if values.get(name) else []


def test_links_lead_somewhere_and_ids_are_unique() -> None:
    """Every link within the book, with its anchor, leads to something."""
    pages = {page: Outline((SITE / page).read_text(encoding="utf8")) for page in PAGES}
    found = []
    for page, outline in pages.items():
        twice = {name for name in outline.ids if outline.ids.count(name) > 1}
        found += [f"{page}: id {name} stands twice" for name in sorted(twice)]
        for link in outline.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            target = urlsplit(urljoin(f"http://book/{page}", link))
            path, anchor = unquote(target.path).strip("/"), unquote(target.fragment)
            if not (SITE / path).is_file():
                found.append(f"{page}: {link} leads nowhere")
            elif anchor and anchor not in pages[path].ids:
                found.append(f"{page}: {link} has no such anchor")
    assert pages
    assert not found, "\n".join(found)


def test_the_root_leads_to_the_front_page(context: BrowserContext, site: str) -> None:
    page = context.new_page()
    page.goto(site)
    page.wait_for_url("**/book/index.html")


# ---------------------------------------------------------------------- twins and their switch


def choice(page: Page, name: str):
    """A button of the switch."""
    return page.get_by_role("radio", name=name)


def seen(page: Page) -> set[str]:
    """Which halves of the twins are shown: the labels that a screen reader can reach."""
    labels = page.locator(".twins .twin-label").evaluate_all(
        "all => all.filter((e) => e.checkVisibility()).map((e) => e.textContent)"
    )
    return set(labels)


def boxes(page: Page) -> list[tuple[dict, dict]]:
    """The boxes of both halves of each pair outside a folded solution."""
    pairs = page.locator(".twins").evaluate_all(
        """all => all.filter((e) => e.checkVisibility()).map((e) => [...e.children].map(
          (half) => half.getBoundingClientRect().toJSON()))"""
    )
    return [tuple(pair) for pair in pairs]


def test_twins_stand_side_by_side(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    for keras, torch in boxes(page):
        assert keras["top"] == pytest.approx(torch["top"], abs=1)
        assert keras["right"] < torch["left"]
        assert torch["right"] <= WIDE["width"]
    scrolled = page.locator(".twins .cell_input pre").evaluate_all(
        """all => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent)
          .filter((text) => text.split("\\n").every((line) => line.length <= 60))"""
    )
    assert not scrolled
    code = page.locator(".twins .cell_input pre").first
    assert code.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 13
    room = code.evaluate(
        """e => { const c = document.createElement("span"); c.textContent = "0".repeat(60);
          e.append(c); const w = c.getBoundingClientRect().width; c.remove();
          const s = getComputedStyle(e);
          return e.clientWidth - parseFloat(s.paddingLeft) - parseFloat(s.paddingRight) - w; }"""
    )
    assert room >= 0, "sixty characters don't fit"


def test_twins_stack_on_a_narrow_screen(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    page.set_viewport_size(NARROW)
    for keras, torch in boxes(page):
        assert keras["bottom"] <= torch["top"]
        assert keras["left"] == pytest.approx(torch["left"], abs=1)


@pytest.mark.parametrize("width", [768, 1024, 1280])
def test_nothing_overflows_in_between(context: BrowserContext, chapter: str, width: int) -> None:
    page = opened(context, chapter)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_switch_by_mouse_is_remembered(context: BrowserContext, chapter: str, site: str) -> None:
    page = opened(context, chapter)
    assert choice(page, "Side by side").is_checked()
    assert seen(page) == {"Keras", "PyTorch"}
    page.locator("#twins-switch label", has_text="PyTorch").click()
    assert seen(page) == {"PyTorch"}
    page.reload()
    assert choice(page, "PyTorch").is_checked()
    assert seen(page) == {"PyTorch"}
    page.goto(site + "book/index.html")
    assert seen(page) == {"PyTorch"}


def test_switch_by_keyboard(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name === 'twins'"):
            break
    assert page.evaluate("document.activeElement.value") == "both"
    page.keyboard.press("ArrowRight")
    assert seen(page) == {"Keras"}
    page.keyboard.press("ArrowRight")
    assert seen(page) == {"PyTorch"}
    outline = page.locator("#twins-switch label:has(:focus-visible)").evaluate(
        "e => getComputedStyle(e).outlineStyle"
    )
    assert outline == "solid"


def test_hidden_half_is_out_of_the_accessibility_tree(
    context: BrowserContext, chapter: str
) -> None:
    page = opened(context, chapter)
    codes = page.locator(".twins").first.locator("pre").all_text_contents()
    assert codes[0] in page.locator(".twins").first.inner_text()
    choice(page, "PyTorch").check(force=True)
    tree = page.locator(".twins").first.aria_snapshot()
    assert "PyTorch" in tree
    assert "Keras" not in tree


def test_one_alone_takes_the_width_of_the_prose(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    choice(page, "Keras").check(force=True)
    half = page.locator(".twins > .twin-keras").first.bounding_box()
    prose = page.locator("article section > p").first.evaluate(
        "e => parseFloat(getComputedStyle(e).maxWidth)"
    )
    assert half["width"] == pytest.approx(prose, rel=0.05)


def test_switch_keeps_the_readers_place(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    titles = page.locator("article h2")
    here = titles.nth(titles.count() // 2)
    here.evaluate("e => scrollTo(0, e.getBoundingClientRect().top + scrollY - 80)")
    page.wait_for_timeout(100)
    assert page.evaluate("scrollY") > 500
    for name in ("Keras", "Side by side", "PyTorch"):
        before = here.bounding_box()["y"]
        choice(page, name).check(force=True)
        page.wait_for_timeout(100)
        assert here.bounding_box()["y"] == pytest.approx(before, abs=2)
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(100)
    assert seen(page) == {"Keras"}
    assert here.bounding_box()["y"] == pytest.approx(before, abs=2)


def test_choice_reaches_other_tabs(context: BrowserContext, chapter: str, site: str) -> None:
    one, other = opened(context, chapter), opened(context, site + "book/index.html")
    choice(one, "Keras").check(force=True)
    other.wait_for_function("document.documentElement.dataset.twins === 'keras'")
    assert choice(other, "Keras").is_checked()
    assert seen(other) == {"Keras"}


def test_choice_is_applied_before_the_first_paint(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    choice(page, "Keras").check(force=True)
    page.add_init_script(
        "requestAnimationFrame(() => { window.atFirst = document.documentElement.dataset.twins; })"
    )
    page.reload()
    assert page.evaluate("window.atFirst") == "keras"


def test_without_storage_all_works(context: BrowserContext, chapter: str) -> None:
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"]) {
          Object.defineProperty(window, name, { configurable: true,
            get() { throw new DOMException("refused", "SecurityError"); } });
        }"""
    )
    found: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda m: m.type in ("error", "warning") and found.append(m.text))
    page.goto(chapter)
    choice(page, "PyTorch").check(force=True)
    assert seen(page) == {"PyTorch"}
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert not found


def test_without_javascript_both_are_read(browser: Browser, chapter: str) -> None:
    context = browser.new_context(viewport=WIDE, java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(chapter)
        assert page.locator("#twins-switch input").count() == 0
        for keras, torch in boxes(page):
            assert keras["bottom"] <= torch["top"]
        assert page.locator(".twin-label").first.is_visible()
        page.locator("details.solution summary").first.click()
        assert page.locator("details.solution .cell_input").first.is_visible()
        page.set_viewport_size(NARROW)
        page.reload()
        assert page.locator(".book-contents").is_visible()
        assert page.locator("h1").is_visible()
        assert page.locator("h1").bounding_box()["y"] < 2 * NARROW["height"]
    finally:
        context.close()


# ------------------------------------------------------------ solutions, search, figures, print


def test_solution_unfolds_by_keyboard(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    fold = page.locator("details.solution").first
    assert fold.locator("summary").inner_text().strip() == "Show the solution"
    assert not fold.locator(".cell_input").first.is_visible()
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    assert fold.locator(".cell_input").first.is_visible()
    assert fold.locator("summary").inner_text().strip() == "Hide the solution"
    page.keyboard.press("Space")
    assert not fold.locator(".cell_input").first.is_visible()


def test_code_that_only_draws_folds_above_its_picture(
    context: BrowserContext, chapter: str
) -> None:
    page = opened(context, chapter)
    fold = page.locator("details.folded:has(~ .cell_output img)").first
    picture = fold.locator("xpath=..").locator(".cell_output img")
    assert picture.is_visible() and not fold.locator(".cell_input").is_visible()
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    assert fold.locator(".cell_input").is_visible() and picture.is_visible()
    assert fold.locator("summary").inner_text().strip() == "Hide the code"


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_search_finds_the_chapter(
    context: BrowserContext, chapter: str, site: str, viewport: dict
) -> None:
    page = context.new_page()
    page.set_viewport_size(viewport)
    page.goto(chapter)
    title = page.locator("h1").evaluate("e => e.firstChild.textContent")
    word = max(re.findall(r"[a-z]+", title.lower()), key=len)
    page.goto(site + "book/how_to_use.html")
    page.locator(".search-button__button:visible").click()
    page.keyboard.type(word)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    link = page.locator(f"#search-results a[href*='{urlsplit(chapter).path.strip('/')}']").first
    link.click()
    page.wait_for_url(f"**{urlsplit(chapter).path}*")


def corner_of(page: Page, png: bytes) -> list[int]:
    """The colour near the lower left corner of a picture, read by the browser itself."""
    return page.evaluate(
        """async (data) => {
          const image = new Image();
          image.src = `data:image/png;base64,${data}`;
          await image.decode();
          const canvas = document.createElement("canvas");
          Object.assign(canvas, { width: image.width, height: image.height });
          const pen = canvas.getContext("2d");
          pen.drawImage(image, 0, 0);
          /* the lower corner: over the upper one of a tall figure lies the bar */
          return [...pen.getImageData(2, image.height - 3, 1, 1).data].slice(0, 3);
        }""",
        base64.b64encode(png).decode(),
    )


@pytest.mark.parametrize("page_name", CHAPTERS or ["the book"])
def test_figures_turn_dark_with_the_page(browser: Browser, site: str, page_name: str) -> None:
    """In the dark a figure's paper has the page's own colour; a photograph stays as it is."""
    notebook = json.loads((ROOT / page_name).with_suffix(".ipynb").read_text("utf8"))
    outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
    context = browser.new_context(viewport=WIDE, color_scheme="dark")
    try:
        page = opened(context, site + page_name)
        images = page.locator(".cell_output img").all()
        assert len(images) == sum("image/png" in out.get("data", {}) for out in outputs)
        page_colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        paper = [int(value) for value in re.findall(r"\d+", page_colour)[:3]]
        for image in images:
            if not image.is_visible():
                continue
            corner = corner_of(page, image.screenshot())
            if image.evaluate("e => !!e.closest('.tag_photo')"):
                assert image.evaluate("e => getComputedStyle(e).filter") == "none"
            else:
                assert max(abs(a - b) for a, b in zip(corner, paper, strict=True)) <= 3
    finally:
        context.close()


def test_print_holds_the_text_and_both_versions(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    choice(page, "Keras").check(force=True)
    page.emulate_media(media="print")
    for part in (".bd-sidebar-primary", ".bd-header-article", "#twins-switch", ".prev-next-footer"):
        assert not page.locator(part).is_visible(), part
    assert page.locator("h1").is_visible()
    assert seen(page) == {"Keras", "PyTorch"}
    assert page.locator(".twins pre").first.evaluate("e => getComputedStyle(e).whiteSpace") in (
        "pre-wrap",
        "break-spaces",
    )


def test_print_is_dark_on_white_in_the_dark_theme(browser: Browser, chapter: str) -> None:
    context = browser.new_context(viewport=WIDE, color_scheme="dark")
    try:
        page = opened(context, chapter)
        page.emulate_media(media="print", color_scheme="dark")
        for part in ("h1", "article p", ".twin-label", ".twin pre", ".cell_output pre"):
            colour = page.locator(part).first.evaluate("e => getComputedStyle(e).color")
            assert max(int(value) for value in re.findall(r"\d+", colour)[:3]) < 180, part
        for image in page.locator(".cell_output img").all():
            assert image.evaluate("e => getComputedStyle(e).filter") == "none"
    finally:
        context.close()


def test_notebook_can_be_downloaded(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    link = page.locator(".dropdown-download-buttons a", has_text=".ipynb")
    with urlopen(urljoin(chapter, link.get_attribute("href")), timeout=10) as answer:
        got = answer.read()
    name = Path(urlsplit(chapter).path).with_suffix(".ipynb").as_posix().strip("/")
    assert json.loads(got) == json.loads((ROOT / name).read_text(encoding="utf8"))


def test_every_chapter_says_what_it_ran_on() -> None:
    for page in CHAPTERS:
        assert "Last run with Python" in (SITE / page).read_text(encoding="utf8"), page


def test_skip_link_is_the_first_stop(context: BrowserContext, chapter: str) -> None:
    page = opened(context, chapter)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"


def test_drawer_opens_on_a_narrow_screen(context: BrowserContext, chapter: str) -> None:
    page = context.new_page()
    page.set_viewport_size(NARROW)
    page.goto(chapter)
    contents = page.locator(".book-contents")
    assert not contents.is_visible()
    page.locator(".primary-toggle:visible").click()
    assert contents.is_visible()
    page.keyboard.press("Escape")
    page.wait_for_function("!document.getElementById('pst-primary-sidebar-modal').open")


# ------------------------------------------------------------------------ rows to be found

ROSETTA = "book/rosetta.html"
LEDGER = """<table class="findable ledger"><thead><tr>
<th>Topic</th><th>What</th><th>Keras</th><th>How far apart</th><th>Then</th></tr></thead>
<tbody>{}</tbody></table>
"""
FIGURES = [
    ("Layers", "b", "0.5", "≤ 1e-12"),
    ("Losses", "c", "1e-3", "the same"),
    ("Layers", "a", "", "RuntimeError"),
    ("Data", "d", "20", "0.46"),
]


@pytest.fixture
def rosetta(context: BrowserContext, site: str) -> Page:
    """The page Rosetta; what it asks of another host, or says in the console, fails the test."""
    found: list[str] = []
    context.on("request", lambda r: r.url.startswith((site, "data:")) or found.append(r.url))
    page = context.new_page()
    page.on("console", lambda m: m.type in ("error", "warning") and found.append(m.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.goto(site + ROSETTA)
    yield page
    assert not found


def tasks(page: Page) -> list[str]:
    """The rows that are shown."""
    return page.locator("section:has(> .twins) > h3").evaluate_all(
        "all => all.filter((e) => e.checkVisibility()).map((e) => e.firstChild.textContent)"
    )


def box(page: Page):
    """The box to type into."""
    return page.get_by_role("searchbox", name="Find")


def test_typing_shows_the_rows_that_hold_the_words(rosetta: Page) -> None:
    count, every = rosetta.locator(".finder-count"), len(tasks(rosetta))
    assert count.inner_text() == f"{every} rows"
    for words, task in [
        ("leaky", "Leaky ReLU"),
        ("LeakyReLU(", "Leaky ReLU"),
        ("torch.nn.functional.one_hot", "One-hot vectors"),
        ("keras.layers.Dense bias=False", "A dense layer without biases"),
        (".permute", "Reorder axes: channels last to channels first"),
        ("regulariz", "A penalty on large weights"),
        ("standardize", "Standardise, with the training set's numbers"),
        (".train()", "Say whether it is training"),
        ("Kullback-Leibler", "Kullback-Leibler divergence"),
        ("tf.GradientTape", "The gradient of each weight"),
    ]:
        box(rosetta).fill(words)
        left = [text.replace("’", "'") for text in tasks(rosetta)]
        assert task in left, words
        assert len(left) < every
        assert count.inner_text() == f"{len(left)} of {every} rows"
        assert not rosetta.locator("table").first.is_visible()  # the indexes make room
    box(rosetta).fill("no such thing")
    assert count.inner_text() == f"none of {every} rows"
    box(rosetta).press("Escape")
    assert len(tasks(rosetta)) == every
    assert box(rosetta).input_value() == ""
    assert rosetta.locator("table").first.is_visible()


def test_topics_narrow_the_rows(rosetta: Page) -> None:
    every = len(tasks(rosetta))
    button = rosetta.locator(".finder-topics button", has_text="Losses")
    button.focus()
    rosetta.keyboard.press("Enter")
    few = tasks(rosetta)
    assert 0 < len(few) < every
    assert button.get_attribute("aria-pressed") == "true"
    box(rosetta).fill("hinge")
    assert tasks(rosetta) == ["Hinge loss"]
    box(rosetta).fill("")
    button.click()
    assert len(tasks(rosetta)) == every


def test_a_search_can_be_sent(rosetta: Page, context: BrowserContext) -> None:
    box(rosetta).fill("loss mean")
    rosetta.locator(".finder-topics button", has_text="Losses").click()
    other = context.new_page()
    other.goto(rosetta.url)
    assert box(other).input_value() == "loss mean"
    assert tasks(other) == tasks(rosetta)
    box(other).press("Escape")
    assert "?" not in other.url


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("dropout", "Dropout, the same units dropped"),
        ("seed", "One seed for everything"),
        (".train()", "Say whether it is training"),
        ("nn.Linear", "A dense layer"),
        ("learning rate", "A learning rate that decays each step"),
        ("shuffle", "Another order each epoch, the same in both"),
        ("cross-entropy", "Classes as integers"),
        ("transfer learning", "Another head on a trained body"),
    ],
)
def test_the_best_row_is_named_first_and_enter_goes_there(
    rosetta: Page, words: str, first: str
) -> None:
    box(rosetta).fill(words)
    named = rosetta.locator(".finder-best a").all_inner_texts()
    assert (named or tasks(rosetta))[0] == first
    assert len(named) == (0 if len(tasks(rosetta)) == 1 else min(6, len(tasks(rosetta))))
    box(rosetta).press("Enter")
    here = rosetta.evaluate("document.activeElement.querySelector('h3').firstChild.textContent")
    assert here == first
    line = rosetta.locator(".finder").bounding_box()
    top = rosetta.locator("h3", has_text=first).first.bounding_box()["y"]
    assert line["y"] + line["height"] <= top < WIDE["height"]


def test_the_index_leads_to_its_row(rosetta: Page, site: str) -> None:
    link = rosetta.locator("#by-pytorch-name a", has_text="Leaky ReLU").first
    row = rosetta.locator(link.get_attribute("href"))
    link.click()
    line = rosetta.locator(".finder").bounding_box()
    assert line["y"] + line["height"] <= row.locator("h3").bounding_box()["y"] < WIDE["height"]
    rosetta.goto(f"{site}{ROSETTA}?find=gelu#leaky-relu")  # left out, but named by the link
    assert rosetta.locator("#leaky-relu").is_visible()
    rosetta.goto(f"{site}{ROSETTA}")
    more = rosetta.locator("#by-keras-name a[href^='?find=']").first
    many = int(more.inner_text().removeprefix("all "))
    more.click()
    rosetta.wait_for_url("**?find=*")
    assert len(tasks(rosetta)) >= many


def test_print_shows_every_row(rosetta: Page) -> None:
    every = len(tasks(rosetta))
    box(rosetta).fill("leaky")
    rosetta.emulate_media(media="print")
    assert len(tasks(rosetta)) == every
    assert not rosetta.locator(".finder").is_visible()


def test_without_javascript_every_row_is_read(browser: Browser, site: str) -> None:
    context = browser.new_context(viewport=WIDE, java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(site + ROSETTA)
        assert page.locator("section:has(> .twins)").last.is_visible()
        assert page.locator("#by-keras-name table").is_visible()
        assert page.locator(".finder").count() == 0
    finally:
        context.close()


@pytest.fixture
def ledger(context: BrowserContext, chapter: str) -> Page:
    """A chapter with a small table of the kind that chapter 13 prints."""
    rows = "".join(
        f'<tr data-topic="{topic}"><td data-label="Topic">{topic}</td><td data-label="What">{what}'
        f'</td><td data-label="Keras">as it comes</td><td data-label="How far apart"'
        f' data-value="{value}">about {value}</td><td data-label="Then">{then}</td></tr>'
        for topic, what, value, then in FIGURES
    )
    output = '<div class="cell container"><div class="cell_output"><div class="text_html">{}'
    output = output.format(LEDGER.format(rows)) + "</div></div></div>"

    def add(route) -> None:
        body = route.fetch().text()
        route.fulfill(body=body.replace("</h1>", f"</h1>{output}", 1), content_type="text/html")

    context.route(f"{chapter}*", add)
    page = context.new_page()
    page.goto(chapter)
    return page


def whats(page: Page) -> str:
    """The rows of the ledger that are shown, in order."""
    cells = page.locator("table.ledger tbody td:nth-child(2)")
    return "".join(
        cells.evaluate_all("all => all.filter(e => e.checkVisibility()).map(e => e.textContent)")
    )


def test_a_ledger_is_searched_filtered_and_sorted(ledger: Page) -> None:
    assert whats(ledger) == "bcad"
    assert ledger.locator(".finder-count").inner_text() == "4 rows"
    topics = ledger.locator(".finder-topics button")
    assert topics.all_inner_texts() == ["All", "Layers", "Losses", "Data"]
    topics.nth(1).click()
    assert whats(ledger) == "ba"
    assert ledger.locator(".finder-count").inner_text() == "2 of 4 rows"
    topics.first.click()
    box(ledger).fill("1e-3")
    assert whats(ledger) == "c"
    box(ledger).press("Escape")
    far = ledger.get_by_role("button", name="How far apart")
    for order, sort in [("cbda", "ascending"), ("dbca", "descending"), ("bcad", None)]:
        far.click()
        assert whats(ledger) == order  # a row without a figure stands last
        assert far.locator("xpath=..").get_attribute("aria-sort") == sort
    then = ledger.get_by_role("button", name="Then")
    for order in ("cbda", "dbca"):  # the same, ≤ 1e-12, 0.46; words last
        then.click()
        assert whats(ledger) == order
    ledger.get_by_role("button", name="What").click()
    assert whats(ledger) == "abcd"


def test_a_ledger_becomes_cards_on_a_narrow_screen(ledger: Page) -> None:
    assert ledger.locator("table.ledger thead").is_visible()
    ledger.set_viewport_size(NARROW)
    assert not ledger.locator("table.ledger thead").is_visible()
    assert ledger.evaluate("document.scrollingElement.scrollWidth") <= NARROW["width"]
    caption = "e => getComputedStyle(e, '::before').content"
    assert ledger.locator("table.ledger td").nth(3).evaluate(caption) == '"How far apart"'


def test_the_books_own_ledgers_keep_the_contract(context: BrowserContext, site: str) -> None:
    """Each cell says its column, each row its topic, as the cards and the buttons need."""
    for name in READ:
        if 'class="findable' not in (SITE / name).read_text(encoding="utf8"):
            continue
        page = context.new_page()
        page.goto(site + name)
        wrong = page.locator("table.findable").evaluate_all(
            """all => all.flatMap((table) => {
              const heads = [...table.tHead.rows[0].cells].map((e) => e.textContent.trim());
              return [...table.tBodies[0].rows].filter((row) => !row.dataset.topic
                || row.cells.length !== heads.length
                || [...row.cells].some((cell, i) => cell.dataset.label !== heads[i]))
                .map((row) => row.textContent);
            })"""
        )
        assert not wrong, f"{name}: {wrong}"
        assert page.locator(".finder").count() == page.locator("table.findable").count()


# ------------------------------------------------------------------- the glossary, and the names


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("kaiming", "He initialisation"),
        ("iou", "intersection over union"),
        ("moving_mean", "running statistics"),
        ("nms", "non-maximum suppression"),
        ("regularization", "regularisation"),
    ],
)
def test_a_term_is_found_by_other_words(
    context: BrowserContext, site: str, words: str, first: str
) -> None:
    page = context.new_page()
    page.goto(f"{site}book/glossary.html")
    shown = page.locator("section:has(> .term) > h3")
    every = shown.count()
    assert page.locator(".finder-count").inner_text() == f"{every} terms"
    box(page).fill(words)
    left = shown.evaluate_all("all => all.filter(e => e.checkVisibility()).map(e => e.innerText)")
    assert len(left) < every / 4
    named = page.locator(".finder-best a").all_inner_texts()
    assert (named or [text.rstrip("#") for text in left])[0] == first


def test_a_word_says_what_it_means(context: BrowserContext, site: str) -> None:
    page = context.new_page()
    page.goto(f"{site}notebooks/01_concepts.html")
    link, card = page.locator("a.to-term", has_text="tensor").first, page.locator(".term-card")
    assert link.get_attribute("title") is None  # else two cards
    assert not card.is_visible()
    link.hover()
    card.wait_for(state="visible")
    assert card.inner_text().startswith("An array of numbers with a shape")
    page.keyboard.press("Escape")
    assert not card.is_visible()
    page.mouse.move(0, 0)
    link.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert card.is_visible()
    assert link.get_attribute("aria-describedby") == card.get_attribute("id")
    page.set_viewport_size(NARROW)
    page.locator("a.to-term").nth(5).focus()  # by keyboard before, so the focus is seen
    edges = card.bounding_box()
    assert edges["x"] >= 0 and edges["x"] + edges["width"] <= NARROW["width"]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= NARROW["width"]
    link.click()
    assert page.url.endswith("/book/glossary.html#tensor")


def test_without_javascript_the_browser_says_it(browser: Browser, site: str) -> None:
    context = browser.new_context(viewport=WIDE, java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{site}notebooks/01_concepts.html")
        assert "array of numbers" in page.locator("a.to-term").nth(1).get_attribute("title")
        page.goto(f"{site}book/names.html")
        assert page.locator("table.names-index tbody tr").count() > 700
    finally:
        context.close()


def names_shown(page: Page) -> list[str]:
    """The names in the rows of the index that are shown."""
    return page.locator("table.names-index td:first-child").evaluate_all(
        "all => all.filter((e) => e.checkVisibility()).map((e) => e.textContent.trim())"
    )


def test_a_name_is_found_by_its_letter_and_by_typing(context: BrowserContext, site: str) -> None:
    page = context.new_page()
    page.goto(f"{site}book/names.html")
    rows = page.locator("table.names-index tbody tr")
    every = rows.count()
    assert page.locator(".finder-count").inner_text() == f"{every} names"
    page.locator(".letters a", has_text="D").first.click()
    line, row = page.locator(".finder").bounding_box(), page.locator("#letter-d")
    assert line["y"] + line["height"] <= row.bounding_box()["y"] + 1 < WIDE["height"]
    assert row.locator("code b").inner_text().lower().startswith("d")
    box(page).fill("layers.Dense")
    shown = names_shown(page)
    assert "keras.layers.Dense" in shown
    assert len(shown) < every / 10
    box(page).fill("")
    page.locator(".finder-topics button", has_text="PyTorch: optimisers").click()
    assert names_shown(page) and all(n.startswith("torch.optim") for n in names_shown(page))
    page.set_viewport_size(NARROW)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= NARROW["width"]
    for name in re.findall(r'href="(\.\./notebooks/[^"]+#[^"]+)"', page.content())[::97]:
        path, _, anchor = urljoin(page.url, name).removeprefix(site).partition("#")
        assert f'id="{unquote(anchor)}"' in (SITE / path).read_text(encoding="utf8"), name


# --------------------------------------------------------------------- how the twins are paired


@pytest.fixture(scope="module")
def twins():
    """The extension, which Sphinx loads by its path."""
    spec = util.spec_from_file_location("twins", ROOT / "book" / "_ext" / "twins.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell(*tags: str):
    """A code cell as MyST-NB gives it."""
    from docutils import nodes

    return nodes.container(nb_element="cell_code", cell_metadata={"tags": list(tags)})


def test_neighbours_pair_and_others_stay(twins) -> None:
    from docutils import nodes

    keras, torch, prose, plain = cell("keras"), cell("torch"), nodes.paragraph(), cell()
    alone, after = cell("keras"), cell("torch")
    got = list(twins.pair([plain, keras, torch, alone, prose, after]))
    assert [type(node).__name__ for node in got] == [
        "container",
        "twins",
        "twin",
        "paragraph",
        "twin",
    ]
    assert [half["framework"] for half in got[1].children] == ["keras", "torch"]
    assert got[1].children[0].children[1] is keras
    assert got[1].children[1].children[1] is torch
    assert [half.children[0].astext() for half in got[1].children] == ["Keras", "PyTorch"]


def test_solution_cells_in_a_row_fold_as_one(twins) -> None:
    from docutils import nodes

    both = [cell("solution", "hide-cell", "keras"), cell("solution", "hide-cell", "torch")]
    last = cell("solution", "hide-cell")
    got = list(twins.fold([cell(), *both, nodes.paragraph(), last]))
    kinds = [type(node).__name__ for node in got]
    assert kinds == ["container", "solution", "paragraph", "solution"]
    assert [type(node).__name__ for node in got[1].children] == ["twins"]
    assert got[3].children == [last]


# ----------------------------------------------------------------------- building it anew


def build(folder: Path) -> subprocess.CompletedProcess:
    """What `make book` does, in a copy of the book."""
    where = ["--config", "book/_config.yml", "--toc", "book/_toc.yml", "--path-output", "book"]
    tool = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    return subprocess.run(
        [*tool, *where, "-W", "--keep-going"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the book is built from, outside any repository."""
    for name in ("book", "helpers", "notebooks"):
        skip = shutil.ignore_patterns("_build", "__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    (tmp_path / ".some_cache").mkdir()
    (tmp_path / ".some_cache" / "README.md").write_text("# What tools leave behind\n")
    return tmp_path


def test_buttons_follow_from_the_remote(copy: Path, context: BrowserContext) -> None:
    subprocess.run(["git", "init", "-q", "-b", "trunk", "."], cwd=copy, check=True)
    url = "https://someone:secret@github.com/owner/name.git"
    subprocess.run(["git", "remote", "add", "origin", url], cwd=copy, check=True)
    done = build(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    made = copy / "book" / "_build" / "html"
    for path in made.rglob("*.html"):
        assert "secret@" not in path.read_text(encoding="utf8"), path
    chapter = (made / CHAPTERS[0]).read_text(encoding="utf8")
    assert "colab" not in chapter  # it would open the notebook without the helpers
    source = CHAPTERS[0].replace(".html", ".ipynb")
    for link in (
        "https://github.com/owner/name",
        f"https://mybinder.org/v2/gh/owner/name/trunk?urlpath=lab/tree/{source}",
    ):
        assert f'href="{link}"' in chapter
    page = context.new_page()
    page.set_viewport_size(NARROW)
    page.goto((made / CHAPTERS[0]).as_uri())
    assert page.evaluate("document.scrollingElement.scrollWidth") <= NARROW["width"]


def test_what_is_missing_fails_the_build(copy: Path) -> None:
    (copy / "helpers" / "added.py").write_text('"""New."""\n__all__ = ["f"]\ndef f(): ...\n')
    path = copy / CHAPTERS[0].replace(".html", ".ipynb")
    notebook = json.loads(path.read_text(encoding="utf8"))
    del notebook["metadata"]["stamp"]
    path.write_text(json.dumps(notebook), encoding="utf8")
    done = build(copy)
    assert done.returncode != 0
    assert "helpers.added.f has no docstring" in done.stderr
    assert "no whole stamp" in done.stderr
    text = (copy / "book" / "_build" / "html" / CHAPTERS[0]).read_text(encoding="utf8")
    assert "mybinder.org" not in text  # no repository, no buttons

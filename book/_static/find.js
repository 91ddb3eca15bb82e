/* A search box above many rows, which shows those that hold all the words typed.

   Where a page has <div class="find-here">, the rows are the sections after it that have an element of
   class `names` (Rosetta's rows, the glossary's terms). A table of class `findable` gets a box of its own:
   its rows are those of its body, its topics their data-topic, in the order of the table's data-topics
   where it has them; a click on a header sorts: by the cells' data-value where they have one, else by the
   number in them (`≤ 1e-12` is one, `the same` is 0), words last. Of the sections the best are named under
   the box, and Enter goes to the first of them. What the rows are called may stand in data-noun.
   What isn't seen but should be found stands in data-find, other words for it in data-also, and the
   names that a row answers before others in data-first. Rows that are left out get the class
   `find-out`, which hides them on the screen and not in print. The words and the topic stand in the
   address (?find=, ?topic=), so that it can be sent to somebody; ?q= is Sphinx' own. Without this
   script all is shown. */
(() => {
  "use strict";
  const BEST = 6; /* titles named under the box */
  const make = (tag, props = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), props);
    element.append(...inside);
    return element;
  };

  /* Lower case; British and American spelling alike. */
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ");
  const alike = (text) => text.replace(/is(e|ing|ation)/g, "iz$1").replace(/our\b/g, "or");

  function textOf(row) {
    const copy = row.cloneNode(true);
    for (const part of copy.querySelectorAll(".headerlink, .twin-label, .check, button")) part.remove();
    const hidden = [...copy.querySelectorAll("[data-find], [data-also]")]
      .map((e) => `${e.dataset.find ?? ""} ${e.dataset.also ?? ""}`);
    const text = plain([copy.textContent, ...hidden].join(" "));
    return `${text} ${alike(text)}`;
  }

  /* First the rows that say so (data-first), then those with the words in the title, then those that have them as whole words. */
  function ranked(hits, words) {
    const weight = new Map(hits.map((row) => [row, words.reduce((sum, word) => {
      const w = word.replace(/\($/, "");
      const title = [row.title, alike(row.title)].join(" ").split(/[^\w.-]+/);
      if (row.first.has(w.replace(/^.*\./, "")) || row.first.has(w)) return sum + 4;
      if (title.some((t) => t === w || t === alike(w))) return sum + 3;
      if (row.also.has(w)) return sum + 2.5;
      if (title.some((t) => t.startsWith(w))) return sum + 2;
      return sum + row.text.split(/[^\w]+/).includes(w.replace(/^.*\./, ""));
    }, 0)]));
    return [...hits].sort((a, b) => weight.get(b) - weight.get(a));
  }

  /* `place`: what the box stands before; `rows`: [{ element, topic }]; `also(active, best)`: what else. */
  function finder(place, rows, number, also = () => {}) {
    const key = (name) => name + (number || "");
    for (const row of rows) {
      row.text = textOf(row.element) + plain(` ${row.topic}`);
      const said = (name) => plain(row.element.querySelector(`[data-${name}]`)?.dataset[name] ?? "");
      row.first = new Set(said("first").split(" ")
        .flatMap((w) => [w, w.replace(/\(\)$/, "").replace(/^.*\./, "")]));
      row.also = new Set(said("also").split(" "));
      row.title = plain(row.element.querySelector("h3")?.firstChild.textContent ?? "");
    }
    const noun = place.dataset.noun ?? "rows";
    let topic = "", best = rows;

    const id = `find-${number}`;
    const input = make("input", { type: "search", id, autocomplete: "off", spellcheck: false });
    input.setAttribute("enterkeyhint", "search");
    const label = make("label", { htmlFor: id, textContent: "Find" });
    const count = make("output", { className: "finder-count" });
    count.setAttribute("for", id);
    const line = make("div", { className: "finder" }, label, input, count);
    line.setAttribute("role", "search");
    const top = make("div", { className: "finder-top" });
    const names = place.dataset.topics?.split("|")
      ?? [...new Set(rows.map((row) => row.topic))].filter(Boolean);
    const group = make("div", { className: "finder-topics" });
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Topic");
    const buttons = ["", ...names].map((name) => {
      const button = make("button", { type: "button", textContent: name || "All" });
      button.addEventListener("click", () => {
        topic = topic === name ? "" : name;
        apply({ home: true });
      });
      return button;
    });
    if (names.length > 1) group.append(...buttons);

    function apply({ home = false, remember = true } = {}) {
      const typed = plain(input.value).split(" ").map((w) => w.replace(/\)$/, "")).filter(Boolean);
      const holding = (words) => rows.filter((row) => (!topic || row.topic === topic)
        && words.every((w) => [w, alike(w), w.replace(/-/g, ""), w.replace(/-/g, "_")]
          .some((v) => row.text.includes(v))));
      let words = typed, hits = holding(words);
      if (!hits.length) { /* nobody calls it */
        words = typed.map((w) => w.replace(/\($/, "")).filter(Boolean);
        hits = holding(words);
      }
      const found = hits.length;
      for (const row of rows) row.element.classList.toggle("find-out", !hits.includes(row));
      const active = Boolean(topic || words.length);
      best = words.length ? ranked(hits, words) : hits;
      also(active, words.length ? best : []);
      count.textContent = !active ? `${rows.length} ${noun}`
        : found ? `${found} of ${rows.length} ${noun}` : `none of ${rows.length} ${noun}`;
      buttons.forEach((button, i) => {
        button.setAttribute("aria-pressed", String(["", ...names][i] === topic));
      });
      if (remember) {
        const url = new URL(location.href);
        for (const [name, value] of [["find", input.value.trim()], ["topic", topic]]) {
          if (value) url.searchParams.set(key(name), value);
          else url.searchParams.delete(key(name));
        }
        if (active) url.hash = "";
        try { history.replaceState(history.state, "", url); } catch { /* a page without an address */ }
      }
      if (home && top.getBoundingClientRect().top < 0) {
        top.scrollIntoView({ block: "start", behavior: "instant" });
      }
    }

    function clear() {
      input.value = topic = "";
      apply({ home: true });
    }

    input.addEventListener("input", () => apply({ home: true }));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        clear();
      } else if (event.key === "Enter") {
        const first = best[0]?.element;
        if (!first) return;
        first.tabIndex = -1;
        first.focus({ preventScroll: true });
        first.scrollIntoView({ block: "start", behavior: "instant" });
      }
    });

    /* A link to a row that is left out brings all rows back. */
    function reveal() {
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!target?.closest(".find-out")) return;
      input.value = topic = "";
      apply({ remember: false });
      target.scrollIntoView({ block: "start", behavior: "instant" });
    }

    place.before(top, line, group);
    const asked = new URLSearchParams(location.search);
    input.value = asked.get(key("find")) ?? "";
    topic = names.includes(asked.get(key("topic"))) ? asked.get(key("topic")) : "";
    apply({ remember: false });
    reveal();
    addEventListener("hashchange", reveal);
    return line;
  }

  /* Places where long code may break: after ( , . = _ and before a capital in CamelCase. */
  function soften(cell) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) if (/\S{13}/.test(walker.currentNode.data)) found.push(walker.currentNode);
    for (const node of found) {
      const parts = node.data.split(/(?<=[(,.=_])(?=\S)|(?<=[a-z0-9])(?=[A-Z][a-z])/);
      node.replaceWith(...parts.flatMap((part, i) => (i ? [make("wbr"), part] : [part])));
    }
  }

  function sections(mark, number) {
    const rows = [...mark.parentElement.querySelectorAll(":scope > section > section:has(> .names)")];
    const groups = [...mark.parentElement.querySelectorAll(":scope > section")];
    const between = [];
    for (let e = mark.nextElementSibling; e && e.tagName !== "SECTION"; e = e.nextElementSibling) {
      between.push(e);
    }
    const titled = (group) => group.querySelector("h2").firstChild.textContent.trim();
    const list = make("div", { className: "finder-best" });
    mark.after(list);
    finder(mark, rows.map((element) => ({ element, topic: titled(element.parentElement) })), number,
      (active, best) => {
        const named = best.length > 1 ? best.slice(0, BEST) : [];
        list.replaceChildren(...named.map(({ element }) => make("a", {
          href: `#${element.id}`, textContent: element.querySelector("h3").firstChild.textContent,
        })));
        list.classList.toggle("find-out", !named.length);
        for (const element of between) element.classList.toggle("find-out", active);
        for (const group of groups) {
          const left = group.querySelector(":scope > section:not(.find-out)");
          group.classList.toggle("find-out", active && !left);
        }
      });
    for (const code of mark.parentElement.querySelectorAll(":scope > section td code")) soften(code);
    mark.remove();
  }

  /* The size that a cell names: `≤ 1e-12`, `−0.5`, `1,797`, `12 %`; `the same` is 0; words are NaN. */
  function numberIn(text) {
    if (/^(the same|none|equal)$/i.test(text)) return 0;
    const bare = text.replace(/^[≤<≥>≈~±]\s*/, "").replace(/^−/, "-").replace(/(\d),(?=\d{3}\b)/g, "$1");
    const figure = bare.match(/^([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?Infinity|[+-]?inf)\s*(%|×)?$/i);
    if (!figure) return NaN;
    return Number(figure[1].replace(/inf(inity)?$/i, "Infinity")) * (figure[2] === "%" ? 0.01 : 1);
  }

  function table(element, number) {
    const body = element.tBodies[0], original = [...body.rows];
    const rows = original.map((row) => ({ element: row, topic: row.dataset.topic ?? "" }));
    finder(element, rows, number);
    for (const row of original) for (const cell of row.cells) soften(cell);
    const heads = [...(element.tHead?.rows[0]?.cells ?? [])];
    const value = (row, i) => {
      const cell = row.cells[i], text = (cell.dataset.value ?? cell.textContent).trim();
      return { text, number: numberIn(text) };
    };
    heads.forEach((head, i) => {
      const button = make("button", { type: "button", textContent: head.textContent.trim() });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        for (const other of heads) other.removeAttribute("aria-sort");
        const way = { null: "ascending", ascending: "descending" }[before];
        if (!way) return body.append(...original);
        head.setAttribute("aria-sort", way);
        const sign = way === "ascending" ? 1 : -1;
        const sorted = original.map((row) => [row, value(row, i)]).sort(([, a], [, b]) => {
          const last = (e) => (e.text === "" ? 2 : Number(Number.isNaN(e.number)));
          if (last(a) !== last(b)) return last(a) - last(b); /* numbers, words, nothing */
          if (last(a)) return sign * a.text.localeCompare(b.text, "en");
          return sign * (a.number === b.number ? 0 : a.number - b.number);
        });
        body.append(...sorted.map(([row]) => row));
      });
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    let number = 0;
    for (const mark of document.querySelectorAll(".find-here")) sections(mark, number++);
    for (const element of document.querySelectorAll("table.findable")) {
      if (element.tBodies.length) table(element, number++);
    }
  });
})();

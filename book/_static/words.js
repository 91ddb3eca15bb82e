/* A card that says what a word means, beside a link to the glossary: under the mouse, or when the link
   has the focus. What it says is the link's title (book/_ext/glossary.py), which without this script the
   browser shows in its own way. Escape puts it away. */
(() => {
  "use strict";
  const DELAY = 180; /* ms that the mouse has to rest on the link */
  document.addEventListener("DOMContentLoaded", () => {
    const links = [...document.querySelectorAll("a.to-term[title]")];
    if (!links.length) return;
    const card = document.createElement("div");
    card.className = "term-card";
    card.id = "term-card";
    card.hidden = true;
    card.setAttribute("role", "tooltip");
    document.body.append(card);
    let timer = 0, shown = null;

    function show(link) {
      clearTimeout(timer);
      if (shown && shown !== link) hide();
      shown = link;
      card.textContent = link.dataset.says;
      card.hidden = false;
      link.setAttribute("aria-describedby", card.id);
      const { top, bottom } = link.getBoundingClientRect(), { left } = link.getClientRects()[0];
      const { width, height } = card.getBoundingClientRect();
      const room = document.documentElement.clientWidth - width - 16;
      const below = bottom + 8 + height < innerHeight || top < height + 8;
      card.style.left = `${scrollX + Math.max(16, Math.min(left, room))}px`;
      card.style.top = `${scrollY + (below ? bottom + 8 : top - height - 8)}px`;
    }

    function hide() {
      clearTimeout(timer);
      shown?.removeAttribute("aria-describedby");
      shown = null;
      card.hidden = true;
    }

    for (const link of links) {
      link.dataset.says = link.title;
      link.removeAttribute("title");
      link.addEventListener("pointerenter", (event) => {
        if (event.pointerType !== "mouse") return;
        clearTimeout(timer);
        timer = setTimeout(show, DELAY, link);
      });
      link.addEventListener("pointerleave", hide);
      link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
      link.addEventListener("blur", hide);
    }
    addEventListener("keydown", (event) => event.key === "Escape" && hide());
  });
})();

/* The switch between the two versions of each step: side by side, Keras alone, PyTorch alone.
   The choice is set on <html data-twins> before the first paint (_templates/layout.html); book.css
   shows and hides. Here: the switch itself, the reader's place, and the other open pages. */
(() => {
  "use strict";
  const CHOICES = [["both", "Side by side"], ["keras", "Keras"], ["torch", "PyTorch"]];
  const root = document.documentElement;

  /* What the reader is looking at: the first piece of the page below the bar. */
  function inView() {
    const bar = document.querySelector(".bd-header-article");
    const top = bar ? bar.getBoundingClientRect().bottom : 0;
    const pieces = document.querySelectorAll(
      ".bd-article :is(h1, h2, h3, p, li, dt, pre, table, img, .twins)"
    );
    for (const piece of pieces) {
      const box = piece.getBoundingClientRect();
      if (box.height && box.bottom > top + 1) return piece.closest(".twins") ?? piece;
    }
    return null;
  }

  function choose(choice) {
    if (root.dataset.twins === choice) return;
    const piece = inView();
    const before = piece?.getBoundingClientRect().top;
    root.style.overflowAnchor = "none"; /* else the browser corrects a second time */
    root.dataset.twins = choice;
    if (piece) {
      const moved = piece.getBoundingClientRect().top - before;
      window.scrollBy({ top: moved, behavior: "instant" });
    }
    requestAnimationFrame(() => requestAnimationFrame(() => { root.style.overflowAnchor = ""; }));
    for (const input of document.querySelectorAll("#twins-switch input")) {
      input.checked = input.value === choice;
    }
  }

  function build(place) {
    const set = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = "Show the code of";
    set.append(legend);
    for (const [value, text] of CHOICES) {
      const label = document.createElement("label");
      label.className = `choice choice-${value}`;
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "twins", value });
      input.checked = root.dataset.twins === value;
      const words = document.createElement("span");
      words.textContent = text;
      label.append(input, words);
      if (value === "both") {
        words.className = "if-wide"; /* where there is room for one column only, it says Both */
        const short = document.createElement("span");
        short.className = "if-narrow";
        short.textContent = "Both";
        label.append(short);
      }
      set.append(label);
    }
    set.addEventListener("change", (event) => {
      choose(event.target.value);
      try { localStorage.setItem("twins", event.target.value); } catch { /* full: not remembered */ }
    });
    place.append(set);
  }

  addEventListener("storage", (event) => {
    if (event.key === "twins" && CHOICES.some(([value]) => value === event.newValue)) {
      choose(event.newValue);
    }
  });

  document.addEventListener("DOMContentLoaded", () => {
    const place = document.getElementById("twins-switch");
    if (place && document.querySelector(".twins")) build(place);
  });
})();

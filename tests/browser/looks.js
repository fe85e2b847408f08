// The faults of a page's look: what is wider than its window, what is cut, what lies on something else. And its texts.

/** @param {Element} element */
const brief = (element) => `${element.tagName.toLowerCase()}.${(element.getAttribute("class") ?? "").split(" ")[0]}`;

/** @param {Element} element what no page may lay out badly, because nobody sees it */
const isHidden = (element) =>
  !element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) ||
  element.closest(".rollout-announcement, .sr-only, .material-symbols-outlined, script, style, option, template, svg");

/** @param {Element} main @returns {{rect: DOMRect, text: string, owner: Element}[]} the lines of text, and what can be pressed */
function boxesOf(main) {
  const boxes = [];
  const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const owner = node.parentElement;
    if (!node.textContent.trim() || isHidden(owner) || owner.matches("textarea")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) boxes.push({ rect, text: node.textContent.trim().slice(0, 60), owner });
  }
  const pressed = "button, select, textarea, input:not([type=hidden]), .rollout-button";
  for (const owner of main.querySelectorAll(pressed)) {
    if (!isHidden(owner)) boxes.push({ rect: owner.getBoundingClientRect(), text: `<${brief(owner)}>`, owner });
  }
  return boxes.filter(({ rect }) => rect.width > 1 && rect.height > 1);
}

/** @param {Element} element @param {Map<Element, object>} known @returns {object} the box that an element clips to, if it does */
function clipOf(element, known) {
  if (!known.has(element)) {
    const { overflowX, overflowY } = getComputedStyle(element);
    const clips = { beside: overflowX !== "visible", below: /hidden|clip/.test(overflowY) };
    known.set(element, { ...clips, box: clips.beside || clips.below ? element.getBoundingClientRect() : null });
  }
  return known.get(element);
}

/** @param {{rect: DOMRect, text: string, owner: Element}} box @param {Element} main @param {Map<Element, object>} known */
function cutOf({ rect, text, owner }, main, known) {
  if (rect.right > innerWidth + 1 || rect.left < -1) return `outside the window: ${text} (${brief(owner)})`;
  for (let around = owner; around && around !== main; around = around.parentElement) {
    if (around.matches("input, select, textarea")) continue;
    const { box, beside, below } = clipOf(around, known);
    const isBeside = beside && (rect.right > box.right + 1.5 || rect.left < box.left - 1.5);
    const isBelow = below && (rect.bottom > box.bottom + 4 || rect.top < box.top - 4);
    if (isBeside || isBelow) return `cut: ${text} (${brief(owner)}) in ${brief(around)}`;
  }
  return "";
}

/** @returns {string[]} */
function faults() {
  const main = document.querySelector("main") ?? document.body;
  const boxes = boxesOf(main);
  const known = new Map();
  const found = boxes.map((box) => cutOf(box, main, known));
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) found.push(`${wide} px wider than the window`);
  for (const [place, one] of boxes.entries()) {
    for (const other of boxes.slice(place + 1)) {
      const width = Math.min(one.rect.right, other.rect.right) - Math.max(one.rect.left, other.rect.left);
      const height = Math.min(one.rect.bottom, other.rect.bottom) - Math.max(one.rect.top, other.rect.top);
      if (width <= 3 || height <= 5 || one.owner.contains(other.owner) || other.owner.contains(one.owner)) continue;
      found.push(`${one.text} (${brief(one.owner)}) lies on ${other.text} (${brief(other.owner)})`);
    }
  }
  return [...new Set(found)].filter(Boolean);
}

/** @returns {Promise<string[]>} the faults that stay: a list takes a moment to fit a new window */
async function lastingFaults() {
  let found = faults();
  for (let tries = 0; found.length && tries < 30; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    found = faults();
  }
  return found;
}

/** @param {Element} element @returns {string} what says the zone of a time: its line, its column, its figure */
function zoneOf(element) {
  const cell = element.closest("tbody :is(td, th)");
  const column = cell && cell.closest("table")?.querySelectorAll("thead th")[cell.cellIndex];
  const line = element.closest("li, p, h2, figure, section.rollout-refused, div.readonly, td, .when") ?? element;
  return `${line.textContent} ${column?.textContent ?? ""} ${element.closest("div.field-row, div.form-row")?.textContent ?? ""}`;
}

/** @returns {{text: string, isTime: boolean, zone: string}[]} all texts, also of titles, labels and filters; not what is code */
function texts() {
  const found = [{ text: document.title, zone: "UTC" }];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const owner = node.parentElement;
    if (owner.closest("script, style, code, pre, textarea, nav, .material-symbols-outlined")) continue;
    const text = node.textContent.trim().replace(/\s+/g, " ");
    if (text) found.push({ text, zone: zoneOf(owner) });
  }
  for (const owner of document.querySelectorAll("[title], [placeholder], [aria-label], [alt]")) {
    for (const name of ["title", "placeholder", "aria-label", "alt"]) {
      const text = owner.getAttribute(name);
      if (text) found.push({ text, zone: zoneOf(owner) });
    }
  }
  return found;
}

// The documentation follows the system's colour scheme.

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// For keyboards and screen readers, where Swagger UI leaves it out. The button of an operation holds no link: an opened
// operation is in the page's address anyway. A table that scrolls takes the focus. Controls have names.
const NAMES = {
  ".examples-select-element": "Example",
  ".body-param__text": "Request body",
  ".close-modal": "Close",
};
const mend = () => {
  for (const link of document.querySelectorAll("button a[href]")) link.removeAttribute("href");
  for (const table of document.querySelectorAll(".swagger-ui table")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
  }
  for (const [selector, name] of Object.entries(NAMES)) {
    for (const control of document.querySelectorAll(selector)) control.setAttribute("aria-label", name);
  }
  for (const button of document.querySelectorAll(".modal-btn[aria-label]")) button.removeAttribute("aria-label");
};
new MutationObserver(mend).observe(document, { childList: true, subtree: true });
addEventListener("resize", mend);

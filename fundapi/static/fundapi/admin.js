// htmx would write a style element into each page, which the Content-Security-Policy refuses. No page uses it.
htmx.config.includeIndicatorStyles = false;

// --- Names for screen readers, where the widgets of Django and Select2 leave them out -------------------------------

/** Names of controls that are an icon alone, by the name of the icon. */
const ICONS = {
  account_balance: "Start page",
  computer: "Theme",
  dark_mode: "Theme",
  light_mode: "Theme",
  more_horiz: "More",
  more_vert: "More",
  search: "Search",
};

function nameWidgets() {
  for (const icon of document.querySelectorAll(".material-symbols-outlined")) {
    const control = icon.closest("a, button, h1, h2, p, div[x-on\\:click]");
    const words = control?.textContent?.replace(icon.textContent ?? "", "").trim();
    const name = ICONS[/** @type {keyof ICONS} */ (icon.textContent?.trim() ?? "")];
    if (control?.matches("a, button, div") && !words && !control.hasAttribute("aria-label") && name) {
      control.setAttribute("aria-label", name);
    }
    if (words || control?.hasAttribute("title") || control?.hasAttribute("aria-label")) icon.ariaHidden = "true";
  }
  // Links without an address and boxes that are clicked: no keyboard reaches them.
  for (const box of document.querySelectorAll("a[x-on\\:click]:not([href]), div.cursor-pointer[x-on\\:click]")) {
    if (!(box instanceof HTMLElement)) continue;
    box.setAttribute("role", "button");
    box.tabIndex = 0;
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      box.click();
    });
  }
  for (const hint of document.querySelectorAll(".help-tooltip[aria-label]")) hint.setAttribute("role", "img");
  for (const box of document.querySelectorAll(".select2-selection[role=combobox]")) {
    const field = box.closest(".select2")?.previousElementSibling;
    const label = field instanceof HTMLSelectElement && field.labels[0]?.textContent;
    const value = box.querySelector("[role=textbox]");
    if (!label || !value) continue;
    value.removeAttribute("role"); // the box has one, and its value is read with it
    value.removeAttribute("aria-readonly");
    box.setAttribute("aria-label", label.trim());
    box.removeAttribute("aria-labelledby");
  }
}

addEventListener("load", () => {
  setTimeout(nameWidgets); // after jQuery's own start of the widgets

  // After a button the new page would begin at its top, in silence: its message is read first.
  const messages = document.getElementById("messages");
  if (messages?.querySelector("li") && document.activeElement === document.body) messages.focus({ preventScroll: true });
});

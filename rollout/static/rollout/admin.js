// The buttons work without this. It spares people surprises.

const AGAIN = 3000; // ms; a request that takes longer may have been lost, and a stop must never wait for it

/** @type {Map<HTMLElement, number>} when each button was last pressed */
const sent = new Map();

/** @param {string} name */
function cookie(name) {
  const found = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
  return found && decodeURIComponent(found.slice(name.length + 1));
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.method !== "post") return;

  // Signing in again in another tab gives the browser a new CSRF token: this page would be refused with the old one.
  const token = form.elements.namedItem("csrfmiddlewaretoken");
  const current = cookie("csrftoken");
  if (token instanceof HTMLInputElement && current) token.value = current;

  // A double click sends once. Another button is another thing to do: two stops in a row both go out.
  const button = event.submitter;
  if (button && Date.now() - (sent.get(button) ?? -AGAIN) < AGAIN) event.preventDefault();
  else if (button) sent.set(button, Date.now());
});

// Back from the next page, the form is as good as new.
addEventListener("pageshow", () => sent.clear());

// What was refused is read out first. Not by autofocus: Unfold shows its pages only once its own script runs.
addEventListener("load", () => {
  const refused = document.querySelector(".rollout-refused");
  if (refused instanceof HTMLElement) refused.focus();
});

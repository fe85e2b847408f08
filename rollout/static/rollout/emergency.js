/**
 * The nuclear kill switch (runbook, "Runtime Kill Switch"): `?emergency_rollback=true`, or the same in localStorage.
 *
 * Import it first; it needs nothing else and never throws:
 *
 *     <script type="module" src="/static/rollout/emergency.js"></script>
 *
 * One visit with the URL is enough: the visit sets the flag in localStorage, which holds in every tab and after a
 * restart of the browser, until the person leaves by the banner (or `clearEmergency()`), which clears both.
 */

const NAME = "emergency_rollback";
// Values that do not ask for the rollback; any other does, as in evaluation.js.
const NO = ["", "0", "0.0", "-0.0", "false", "no", "off", "null", "none", "undefined"];
const TEXT =
  "Emergency rollback is on: this browser uses the previous version of this page. " +
  "What you entered is kept. To leave, press the button.";
const STYLE = `
.emergency-banner { position: sticky; top: 0; z-index: 2147483647; display: flex; flex-wrap: wrap; gap: .5rem 1rem;
  align-items: center; padding: .75rem 1rem; background: #7a1111; color: #fff; border-bottom: 2px solid #fff;
  font: 1rem/1.4 system-ui, sans-serif; }
.emergency-banner p { flex: 1 1 16rem; margin: 0; }
.emergency-banner button { padding: .5rem 1rem; border: 2px solid #fff; border-radius: .25rem; background: #fff;
  color: #7a1111; font: inherit; font-weight: 600; cursor: pointer; }
.emergency-banner button:focus-visible { outline: 3px solid #ffd54a; outline-offset: 2px; }
@media print { .emergency-banner { display: none; } }
`;

// Remembers the URL's flag where the browser blocks storage.
let openedInEmergency = false;

/**
 * @param {string | null} value
 * @returns {boolean}
 */
function isSet(value) {
  return !NO.includes(String(value).trim().toLowerCase());
}

/** @returns {boolean} */
function inUrl() {
  try {
    return new URLSearchParams(location.search).getAll(NAME).some(isSet);
  } catch {
    return false;
  }
}

/** @returns {boolean} */
function inStorage() {
  try {
    return isSet(localStorage.getItem(NAME));
  } catch {
    return false;
  }
}

/**
 * Return whether this browser is in an emergency rollback.
 * @returns {boolean}
 */
export function emergencyActive() {
  return openedInEmergency || inUrl() || inStorage();
}

/** End the emergency rollback: clear the flag in storage and in the URL. A reload then starts as usual. */
export function clearEmergency() {
  openedInEmergency = false;
  tellServer(false);
  try {
    localStorage.removeItem(NAME);
  } catch {
    // blocked: it was never stored
  }
  try {
    const url = new URL(location.href);
    url.searchParams.delete(NAME);
    history.replaceState(history.state, "", url);
  } catch {
    // no history to write to: the person can still edit the address
  }
}

/**
 * Set or delete the cookie by which the server stops too: it cannot see localStorage.
 * @param {boolean} stopped
 */
function tellServer(stopped) {
  try {
    if (!stopped && !document.cookie.includes(`${NAME}=`)) return;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${NAME}=true; Path=/; Max-Age=${stopped ? 31_536_000 : 0}; SameSite=Lax${secure}`;
  } catch {
    // blocked: the server still sees the URL
  }
}

/** Store the URL's flag, so that it holds on later visits. */
function persist() {
  if (!inUrl()) return;
  openedInEmergency = true;
  try {
    localStorage.setItem(NAME, "true");
  } catch {
    // full or blocked: the URL still has the flag
  }
}

/**
 * Show the banner and its button to leave. Does nothing when the banner is there already.
 * @param {string} [text]
 */
export function showBanner(text = TEXT) {
  try {
    if (!document.body) {
      document.addEventListener("DOMContentLoaded", () => showBanner(text), { once: true });
      return;
    }
    if (document.querySelector(".emergency-banner")) return;
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style];
  } catch {
    // an old browser shows the banner without colours
  }
  try {
    const banner = document.createElement("section");
    banner.className = "emergency-banner";
    banner.setAttribute("aria-label", "Emergency rollback");
    const status = document.createElement("p");
    status.setAttribute("role", "status");
    const leave = document.createElement("button");
    leave.type = "button";
    leave.textContent = "Leave emergency rollback";
    leave.addEventListener("click", () => {
      clearEmergency();
      location.reload();
    });
    banner.append(status, leave);
    document.body.prepend(banner);
    setTimeout(() => {
      status.textContent = text; // screen readers announce only what changes in an element that is there
    }, 0);
  } catch {
    // a banner that cannot be shown must not stop the page
  }
}

if (typeof document !== "undefined") {
  persist();
  tellServer(emergencyActive());
  if (emergencyActive()) showBanner();
}

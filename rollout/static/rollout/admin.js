// The buttons work without this. It spares people surprises, and keeps the open screen up to date.

const AGAIN = 3000; // ms; a request that takes longer may have been lost, and a stop must never wait for it
const POLL = 10_000; // ms between two questions; the judge looks every minute, people act when they like
const PATIENCE = 8_000; // ms; an answer that takes longer is as good as none

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

// --- Times ---------------------------------------------------------------------------------------------------------

let ahead = 0; // ms by which the server's clock is ahead of this one

/** @param {number} ms @returns {string} such as "1 h 5 min" */
function duration(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

/** Say how far off each time of the page is. */
function tellTimes() {
  const now = Date.now() + ahead;
  for (const time of document.querySelectorAll("time[data-relative], time[data-age]")) {
    if (!(time instanceof HTMLTimeElement)) continue;
    const away = Date.parse(time.dateTime) - now;
    if (time.dataset.age !== undefined) {
      time.textContent = duration(Math.max(-away, 0));
      continue;
    }
    time.dataset.relative ||= time.textContent ?? "";
    const text = away > 0 ? `in ${duration(away + 59_999)}` : `${duration(-away)} ago`;
    time.textContent = `${time.dataset.relative} (${text})`;
  }
}

// --- Following -----------------------------------------------------------------------------------------------------

/** @param {HTMLElement} screen */
function follow(screen) {
  const url = screen.dataset.liveUrl + location.search;
  const loaded = screen.dataset.version;
  const state = screen.querySelector("[data-live-state]");
  const said = screen.querySelector("[data-live-said]");
  /** @type {number | undefined} */
  let timer;
  let asking = false;
  let updated = clock(new Date());

  /** @param {Date} date */
  function clock(date) {
    return `${date.toISOString().slice(11, 19)} UTC`;
  }

  /** @param {string} text @param {boolean} failed */
  function say(text, failed) {
    if (!state || state.textContent === text) return; // it is read out when it changes
    state.textContent = text;
    state.classList.toggle("is-failed", failed);
  }

  /** @param {Document} news */
  function show(news) {
    const root = news.querySelector("[data-version]");
    if (!(root instanceof HTMLElement)) throw new Error("the answer is another page");
    const focused = document.activeElement?.getAttribute("href");
    for (const part of screen.querySelectorAll("[data-live]")) {
      if (!(part instanceof HTMLElement)) continue;
      const fresh = root.querySelector(`[data-live="${part.dataset.live}"]`);
      if (!fresh) continue;
      const had = part.contains(document.activeElement);
      part.replaceChildren(...fresh.childNodes);
      if (had && focused) {
        const again = part.querySelector(`[href="${CSS.escape(focused)}"]`);
        if (again instanceof HTMLElement) again.focus({ preventScroll: true });
      }
    }
    const { version, signal, etag } = root.dataset;
    if (said && signal && signal !== screen.dataset.signal) said.textContent = `The signal is ${signal}.`;
    screen.dataset.signal = signal;
    screen.dataset.etag = etag;
    for (const note of screen.querySelectorAll("[data-outdated]")) tellOutdated(note, version !== loaded);
  }

  /** @param {Element} note @param {boolean} outdated */
  function tellOutdated(note, outdated) {
    if (!outdated || note.hasChildNodes()) return;
    const link = document.createElement("a");
    link.href = location.pathname.replace(/[^/]+\/$/, "change/") + location.search;
    link.textContent = "Reload the page";
    note.append("The rollout was changed after this form was loaded. Its buttons would be refused. ", link, " to use them.");
  }

  async function ask() {
    clearTimeout(timer);
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await fetch(url, {
        headers: { "If-None-Match": screen.dataset.etag ?? "" },
        redirect: "manual", // to the sign-in page
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (answer.type === "opaqueredirect" || answer.status === 403) throw new Error("you are signed out: reload the page");
      if (answer.status !== 304 && !answer.ok) throw new Error(`the server answers ${answer.status}`);
      const date = Date.parse(answer.headers.get("Date") ?? "");
      if (date) ahead = date - Date.now();
      if (answer.status !== 304) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      updated = clock(new Date(Date.now() + ahead));
      say("Live", false);
    } catch (error) {
      const network = !(error instanceof Error) || error.name === "TypeError" || error.name === "TimeoutError";
      say(`Not updated since ${updated}: ${network ? "the server does not answer" : error.message}`, true);
    } finally {
      asking = false;
      tellTimes();
      if (!document.hidden) timer = setTimeout(ask, POLL);
    }
  }

  document.addEventListener("visibilitychange", ask); // a hidden page asks nothing; seen again, it asks at once
  ask();
}

const screenOfRollout = document.querySelector("[data-live-url]");
if (screenOfRollout instanceof HTMLElement) follow(screenOfRollout);
tellTimes();

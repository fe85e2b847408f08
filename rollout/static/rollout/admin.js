// The rollout's screen: prevents double clicks, and keeps the open screen up to date. Its buttons work without scripts.

const DOUBLE_CLICK = 3000; // ms; a request that takes longer may have been lost, and a stop must never wait for it
const POLL_INTERVAL = 10_000; // ms; the judge evaluates every minute, people act when they like
const POLL_TIMEOUT = 8_000; // ms

/** @type {Map<HTMLElement, number>} when each button was last pressed */
const pressedAt = new Map();

/** @param {string} name */
function cookie(name) {
  const pair = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
  return pair && decodeURIComponent(pair.slice(name.length + 1));
}

/** @param {string} name @param {string} value for the next page; a browser without storage forgets */
function remember(name, value) {
  try {
    sessionStorage.setItem(name, value);
  } catch {}
}

/** @param {string} name @returns {string | null} what the page before remembered, once */
function recall(name) {
  try {
    const value = sessionStorage.getItem(name);
    sessionStorage.removeItem(name);
    return value;
  } catch {
    return null;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.method !== "post") return;

  // Signing in again in another tab gives the browser a new CSRF token, and the server refuses this page's old one.
  const token = form.elements.namedItem("csrfmiddlewaretoken");
  const current = cookie("csrftoken");
  if (token instanceof HTMLInputElement && current) token.value = current;

  // A double click sends once. Another button is another action: two stops in a row are both sent.
  const button = event.submitter;
  if (button && Date.now() - (pressedAt.get(button) ?? -DOUBLE_CLICK) < DOUBLE_CLICK) event.preventDefault();
  else {
    if (button) pressedAt.set(button, Date.now());
    remember("rollout-pressed", location.pathname);
  }
});

// After a return from the next page every button sends again.
addEventListener("pageshow", () => pressedAt.clear());

// A screen reader reads the refusal first, or after a button what it has changed. Not by autofocus: Unfold shows its pages only once its own script runs.
addEventListener("load", () => {
  const refused = document.querySelector(".rollout-refused");
  const changed = recall("rollout-pressed") && document.querySelector(".rollout-banners section, .rollout-headline");
  if (refused instanceof HTMLElement) refused.focus();
  else if (changed instanceof HTMLElement && document.activeElement === document.body) {
    changed.tabIndex = -1;
    changed.focus({ preventScroll: true });
  }
});

// --- Times ---------------------------------------------------------------------------------------------------------

let clockOffset = 0; // ms by which the server's clock is ahead of this one

/** @param {number} ms @returns {string} such as "1 h 5 min" */
function duration(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

/** Write beside each time of the page how long ago it is, or in how long. */
function showRelativeTimes() {
  const now = Date.now() + clockOffset;
  for (const time of document.querySelectorAll("time[data-relative], time[data-age]")) {
    if (!(time instanceof HTMLTimeElement)) continue;
    const distance = Date.parse(time.dateTime) - now;
    if (time.dataset.age !== undefined) {
      time.textContent = duration(Math.max(-distance, 0));
      continue;
    }
    time.dataset.relative ||= time.textContent ?? "";
    const text = distance > 0 ? `in ${duration(distance + 59_999)}` : `${duration(-distance)} ago`;
    time.textContent = `${time.dataset.relative} (${text})`;
  }
}

// --- Polling -------------------------------------------------------------------------------------------------------

/**
 * Poll the server, and replace the parts of the screen that it sends.
 * @param {HTMLElement} screen
 */
function pollScreen(screen) {
  const url = screen.dataset.liveUrl + location.search;
  const loadedVersion = screen.dataset.version;
  const state = screen.querySelector("[data-live-state]");
  const announcement = screen.querySelector("[data-live-announcement]");
  /** @type {number | undefined} */
  let timer;
  let polling = false;
  let updatedAt = clock(new Date());

  /** @param {Date} date */
  function clock(date) {
    return `${date.toISOString().slice(11, 19)} UTC`;
  }

  /** @param {string} text @param {boolean} failed */
  function showState(text, failed) {
    if (!state || state.textContent === text) return; // screen readers announce each change
    state.textContent = text;
    state.classList.toggle("is-failed", failed);
  }

  /** @param {Element | null} element @returns {string | undefined} a selector of a link, a button, or what unfolds */
  function focusable(element) {
    if (element?.id) return `#${CSS.escape(element.id)}`;
    const href = element?.getAttribute("href");
    if (href) return `[href="${CSS.escape(href)}"]`;
    const folded = element?.closest("details[id]");
    return folded ? `#${CSS.escape(folded.id)} > summary` : undefined;
  }

  /** @param {DOMStringMap} now tell screen readers what has changed */
  function announce(now) {
    const before = screen.dataset;
    const changes = [];
    if (now.state !== before.state) changes.push(`The rollout is now: ${now.state}.`);
    else if (now.version !== before.version) changes.push("The rollout was changed.");
    if (now.signal && now.signal !== before.signal) changes.push(`The signal is ${now.signal}.`);
    if (announcement && changes.length) announcement.textContent = changes.join(" ");
  }

  /** @param {Document} answer */
  function show(answer) {
    const root = answer.querySelector("[data-version]");
    if (!(root instanceof HTMLElement)) throw new Error("the answer is another page");
    const focused = focusable(document.activeElement);
    for (const part of screen.querySelectorAll("[data-live]")) {
      if (!(part instanceof HTMLElement)) continue;
      const fresh = root.querySelector(`[data-live="${part.dataset.live}"]`);
      if (!fresh) continue;
      const hadFocus = part.contains(document.activeElement);
      for (const opened of part.querySelectorAll("details[id][open]")) {
        fresh.querySelector(`#${CSS.escape(opened.id)}`)?.setAttribute("open", "");
      }
      for (const hidden of part.querySelectorAll("input[id]:not(:checked)")) {
        fresh.querySelector(`#${CSS.escape(hidden.id)}`)?.removeAttribute("checked");
      }
      part.replaceChildren(...fresh.childNodes);
      if (hadFocus && focused) {
        const same = part.querySelector(focused);
        if (same instanceof HTMLElement) same.focus({ preventScroll: true });
      }
    }
    announce(root.dataset);
    const { version, signal, state, etag } = root.dataset;
    if (state && screen.dataset.state) document.title = document.title.replace(screen.dataset.state, state);
    Object.assign(screen.dataset, { version, signal, state, etag });
    for (const note of screen.querySelectorAll("[data-outdated]")) showOutdated(note, version !== loadedVersion);
  }

  /** @param {Element} note @param {boolean} outdated */
  function showOutdated(note, outdated) {
    if (!outdated || note.hasChildNodes()) return;
    const link = document.createElement("a");
    link.href = location.pathname.replace(/[^/]+\/$/, "change/") + location.search;
    link.textContent = "Reload the page";
    const text = "The rollout was changed after this form was loaded. The server would refuse its buttons. ";
    note.append(text, link, " to use them.");
  }

  async function poll() {
    clearTimeout(timer);
    if (document.hidden || polling) return;
    polling = true;
    try {
      const answer = await fetch(url, {
        headers: { "If-None-Match": screen.dataset.etag ?? "" },
        redirect: "manual", // to the sign-in page
        signal: AbortSignal.timeout(POLL_TIMEOUT),
      });
      const signedOut = answer.type === "opaqueredirect" || answer.status === 403;
      if (signedOut) throw new Error("you are signed out: reload the page");
      if (answer.status !== 304 && !answer.ok) throw new Error(`the server answers ${answer.status}`);
      const date = Date.parse(answer.headers.get("Date") ?? "");
      if (date) clockOffset = date - Date.now();
      if (answer.status !== 304) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      updatedAt = clock(new Date(Date.now() + clockOffset));
      showState("Live", false);
    } catch (error) {
      const network = !(error instanceof Error) || error.name === "TypeError" || error.name === "TimeoutError";
      showState(`Not updated since ${updatedAt}: ${network ? "the server does not answer" : error.message}`, true);
    } finally {
      polling = false;
      showRelativeTimes();
      if (!document.hidden) timer = setTimeout(poll, POLL_INTERVAL);
    }
  }

  document.addEventListener("visibilitychange", poll); // a hidden page does not poll; seen again, it polls at once
  poll();
}

// --- Charts --------------------------------------------------------------------------------------------------------

// A touch says what a pointer's tooltip does.
document.addEventListener("pointerdown", ({ target, pointerType }) => {
  const shape = target instanceof Element && target.closest(".rollout figure > svg *");
  if (!shape || pointerType !== "touch") return;
  const text = shape.closest(":has(> title)")?.querySelector(":scope > title")?.textContent;
  const figure = shape.closest("figure");
  if (!text || !figure) return;
  const tip = figure.querySelector(".rollout-tip") ?? document.createElement("p");
  tip.className = "rollout-tip";
  tip.textContent = text;
  figure.querySelector("figcaption")?.prepend(tip);
});

const rolloutScreen = document.querySelector("[data-live-url]");
if (rolloutScreen instanceof HTMLElement) pollScreen(rolloutScreen);
showRelativeTimes();

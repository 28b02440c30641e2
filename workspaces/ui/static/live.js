/**
 * Keeps the page as the workspace is.
 *
 * One tab of the browser, which holds a lock, listens to the stream of changes and passes on what it hears; a hidden
 * tab sleeps, and looks again once it is shown. What a change concerns is fetched as a page and merged. While the
 * stream is down the page says so and since when, and goes on by asking.
 */

import { endLogin, merging } from "./forms.js";
import { adjust, now, timeOfDay } from "./time.js";

const GRACE_MS = 2000; // before a page says that it is not live
const ASK_MS = 15_000;
const SILENCE_MS = 40_000; // of a stream that tells of itself every 15 s
const AGAIN_MS = [1000, 3000];
const LOOK_MS = 10_000;
const LAG_MS = 1000; // until every replica knows a change
const LAGS_MAX = 2;
const UNNUMBERED = ["buckets", "credentials", "usage"]; // parts that change without the number: offers of others, and Secrets

const root = document.documentElement;
const { body } = document;
const connection = document.getElementById("connection");
const { events, workspace, parts } = body.dataset;
const NAME = `${events} ${body.dataset.user}`; // each reader's pages hear of what that one may see

const channel = new BroadcastChannel(NAME);
let source; // where this tab listens itself
let latest = body.dataset.number ?? ""; // number of the last change that was heard of
let state = "";
let lostAt;
let staleSince; // of what the server knows itself
let leave; // ends what this tab does to hear of changes
let lags = 0;
let looking = false;
let isOutdated = false;
let timers = {};

function after(name, milliseconds, act) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(act, milliseconds);
}

// ---- The stream

/** Take part: listen as soon as no other tab does, and hear what it hears. */
function join() {
  const abort = new AbortController();
  let release = () => {};
  leave = () => {
    abort.abort();
    release();
    leave = undefined;
  };
  const held = new Promise((resolve) => { release = resolve; });
  const listening = navigator.locks.request(NAME, { signal: abort.signal }, async () => {
    listen(state === "on"); // through another tab, and nobody knows what happened since that one left
    await held;
    source.close();
    source = undefined;
  });
  listening.catch((error) => { if (error.name !== "AbortError") throw error; });
  become("connecting");
  channel.postMessage({ hello: true });
}

/** Take no part any more. */
function sleep() {
  leave?.();
  for (const timer of Object.values(timers)) clearTimeout(timer);
  timers = {};
  lostAt = undefined;
  connection.hidden = true;
  state = root.dataset.live = "connecting";
}

function listen(isAgain) {
  source = new EventSource(`${events}?after=${encodeURIComponent(latest)}`);
  source.onopen = () => {
    beat();
    tell({ state: "on", number: latest, isAgain: isAgain || !latest, stale: null });
  };
  source.onerror = lose;
  source.addEventListener("beat", beat);
  source.addEventListener("stale", (event) => {
    beat();
    tell({ stale: JSON.parse(event.data).since });
  });
  source.addEventListener("snapshot", (event) => {
    beat();
    tell({ number: event.lastEventId });
  });
  source.addEventListener("changed", (event) => {
    beat();
    tell({ number: event.lastEventId, change: JSON.parse(event.data) });
  });
}

function beat() {
  after("silence", SILENCE_MS, lose);
}

function lose() {
  source.close();
  tell({ state: "connecting" });
  const [least, spread] = [AGAIN_MS[0], AGAIN_MS[1] - AGAIN_MS[0]];
  after("again", least + Math.random() * spread, () => listen(true));
}

// ---- What tabs tell each other

function tell(message) {
  channel.postMessage(message);
  hear(message);
}

function hear({ state: is, number, isAgain, change, hello, stale }) {
  if (hello) {
    if (source) channel.postMessage({ state, number: latest, stale: staleSince });
    return;
  }
  if (!leave) return; // asleep: it looks when it is shown
  if (number) latest = number;
  if (stale !== undefined) staleSince = stale;
  if (is) become(is);
  if (state === "on") admit(connection.dataset.stale, staleSince && Date.parse(staleSince));
  if (isAgain || (number && concerns(change))) {
    lags = 0;
    look();
  }
}

/** Whether the page may be another after a change, or after nobody knows what. */
function concerns(change) {
  const isNew = latest !== body.dataset.number;
  if (!change) return isNew;
  if (workspace && change.workspace !== workspace) return false;
  if (change.version === null) return true; // it cannot be seen any more
  const changed = parts ? change.parts.filter((part) => parts.split(" ").includes(part)) : change.parts;
  return changed.length > 0 && (isNew || changed.some((part) => UNNUMBERED.includes(part)));
}

// ---- Whether the page is live

function become(next) {
  if (next === "on") {
    lostAt = undefined;
    clearTimeout(timers.grace);
    clearTimeout(timers.ask);
  } else if (lostAt === undefined) {
    lostAt = now();
    after("grace", GRACE_MS, despair);
  } else if (state === "off") {
    return;
  }
  state = root.dataset.live = next;
}

function despair() {
  state = root.dataset.live = "off";
  admit(connection.dataset.offline, lostAt);
  ask();
}

/** Say that the page may be out of date, and since when; or nothing, where it is not. */
function admit(text, since) {
  connection.hidden = !since;
  if (since) connection.textContent = text.replace("{time}", timeOfDay(since));
}

function ask() {
  look();
  after("ask", ASK_MS, ask);
}

// ---- The page itself

/** Fetch the page and merge it; while that goes on, once more afterwards. */
async function look() {
  if (looking) {
    isOutdated = true;
    return;
  }
  looking = true;
  isOutdated = false;
  try {
    await show(await fetched());
  } finally {
    looking = false;
  }
  askAgain();
  if (isOutdated) look();
  else if (leave && latest !== body.dataset.number && lags < LAGS_MAX) {
    lags += 1;
    after("lag", LAG_MS, look); // that replica may not have known yet
  }
}

/** The answer and its text; nothing where the server is away, which the page says of the stream. */
async function fetched() {
  try {
    const signal = AbortSignal.timeout(LOOK_MS);
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", signal });
    return { response, text: await response.text() };
  } catch {
    return {};
  }
}

async function show({ response, text }) {
  if (!response || response.status >= 500 || response.status === 429) return;
  if (response.status === 401 && endLogin()) return; // and go on asking: somebody may log in again in another tab
  adjust(response);
  const [, target] = /^0;\s*url=(.+)$/i.exec(response.headers.get("Refresh") ?? "") ?? [];
  if (target) return location.replace(target);
  const { merge } = await merging();
  merge(response, text);
  if (response.status === 401) sleep(); // the page says where to log in
}

/** Look again after a while where a page waits for what no stream tells of. */
function askAgain() {
  const seconds = document.querySelector("#main [data-asks]")?.dataset.asks;
  if (seconds && !document.hidden) after("asks", seconds * 1000, look);
}

function shown() {
  if (document.hidden) {
    sleep();
  } else if (!leave) {
    join();
    look();
  }
}

addEventListener("submit", ({ target }) => {
  if (target.matches("[data-leaves]")) tell({ leaves: true }); // the stream would go on for as long as its token
});
channel.onmessage = ({ data }) => hear(data);
document.addEventListener("outdated", look);
addEventListener("offline", () => { if (source) lose(); });
addEventListener("online", () => {
  if (!source || state === "on") return;
  source.close();
  after("again", 0, () => listen(true));
});

if (document.querySelector("[data-copy], [data-hides]")) import("./copy.js");
if (events) {
  document.addEventListener("visibilitychange", shown);
  if (!document.hidden) join();
}
askAgain();
performance.mark("interactive");

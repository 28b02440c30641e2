/**
 * Times as the reader counts them: relative, in the reader's zone and language.
 *
 * The browser's clock may be wrong, so "now" is the server's: what the page says of its rendering, and later the Date
 * of answers, carried on by a counter that nobody sets.
 */

const root = document.documentElement;
const locale = root.lang || undefined;
const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30]];
const DRIFT_MS = 2000; // a Date has whole seconds, and the answer was on its way

const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" });
const clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const duration = Intl.DurationFormat && new Intl.DurationFormat(locale, { style: "short" });

const arrival = performance.getEntriesByType("navigation")[0]?.responseStart ?? 0;
let ahead = (Date.parse(root.dataset.now) || performance.timeOrigin + arrival) - arrival;

/** Milliseconds since 1970, by the server's clock. */
export function now() {
  return ahead + performance.now();
}

/** Correct the clock by what an answer says. */
export function adjust(response) {
  const date = Date.parse(response.headers.get("Date"));
  if (Math.abs(date - now()) > DRIFT_MS) ahead = date - performance.now();
}

/** Time of day, such as 14:03:12, in the reader's zone. */
export function timeOfDay(milliseconds) {
  return clock.format(milliseconds);
}

/** Write the times within an element anew. */
export function localise(within) {
  for (const element of within.querySelectorAll("time[datetime]")) {
    const moment = Date.parse(element.dateTime);
    if (Number.isNaN(moment)) continue;
    const text = written(moment, element.dataset.as);
    if (element.textContent !== text) element.textContent = text;
    element.title ||= full.format(moment);
  }
}

function written(moment, as) {
  if (as === "date") return day.format(moment);
  let amount = Math.round((moment - now()) / 1000);
  if (as === "elapsed" && duration) return elapsed(Math.abs(amount));
  for (const [unit, size] of STEPS) {
    if (Math.abs(amount) < size) return relative.format(amount, unit);
    amount = Math.round(amount / size);
  }
  return day.format(moment);
}

function elapsed(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  if (hours) return duration.format({ hours, minutes });
  return seconds ? duration.format({ minutes, seconds: seconds % 60 }) : relative.format(0, "second");
}

localise(document);
setInterval(() => {
  if (!document.hidden) localise(document);
}, 1000);

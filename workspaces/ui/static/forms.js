/**
 * Forms that are sent without leaving the page, and the dialogs that they are in.
 *
 * Everything here works without this script, too: a form is sent by the browser, a link opens its dialog's page.
 */

import { adjust } from "./time.js";

const SEND_MS = 60_000;
const region = document.getElementById("announcements");
const edited = new WeakMap(); // names of the fields that the reader changed, by form
const failed = new Set(); // forms that show why they were refused

/** Have a screen reader say it. */
export function announce(text) {
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 100); // the same text again is a change, too
}

/** Whether the reader changed a field (or the field of an option) that has not been sent since. */
export function isEdited(element) {
  const field = element.closest("select") ?? element;
  return edited.get(field.form)?.has(field.name) ?? false;
}

/** Whether a form shows errors of what is still in it. */
export function isFailed(form) {
  return failed.has(form);
}

/** Open dialogs that the server wrote as open, above the page. */
export function raise(within) {
  for (const dialog of within.querySelectorAll("dialog[open]:not(:modal)")) {
    dialog.removeAttribute("open");
    dialog.showModal();
  }
}

/** What merges pages. Where it cannot be had while pages can, the server has another version: the page is loaded anew. */
export function merging() {
  return import("./morph.js").catch(() => {
    location.reload();
    return new Promise(() => {});
  });
}

/** Forget what the address says of one moment only: what was done, which dialog is open. */
function settle(address, ...parameters) {
  const url = new URL(address);
  for (const parameter of parameters) url.searchParams.delete(parameter);
  history.replaceState(history.state, "", url);
}

async function send(form, submitter) {
  // Not form.action: a field of that name would be it.
  const address = submitter?.getAttribute("formaction") || form.getAttribute("action") || location.href;
  const body = new URLSearchParams(new FormData(form, submitter));
  form.setAttribute("aria-busy", "true");
  forget(form);
  const signal = AbortSignal.timeout(SEND_MS);
  const answered = fetch(address, { method: "POST", body, headers: { Accept: "text/html" }, signal });
  await answered.then((response) => follow(form, response), () => refuse(form));
  form.removeAttribute("aria-busy");
}

/** Show where an answer leads. */
async function follow(form, response) {
  const url = new URL(response.url);
  if (response.status === 401) {
    response.body?.cancel(); // or it would keep its connection
    return endLogin() || location.reload(); // which leads to the login
  }
  if (response.redirected && url.pathname !== location.pathname) return location.assign(url);
  adjust(response);
  const { merge } = await merging();
  const text = await response.text();
  if (response.ok) {
    edited.delete(form);
    HTMLFormElement.prototype.reset.call(form);
    form.closest("dialog")?.close();
    settle(url, "done", "at");
  }
  if (!merge(response, text, { own: form })) return refuse(form);
  for (const refused of document.querySelectorAll("#main form:has([aria-invalid='true'], .error)")) failed.add(refused);
  const result = document.querySelector("#messages [data-announce], #main .error:not([role])");
  if (result) announce(result.textContent);
  if (!response.ok) document.querySelector("#main [aria-invalid='true']")?.focus();
}

/** Take back what was said of the last attempt. */
function forget(form) {
  failed.delete(form);
  form.querySelector(":scope > .error.unsent")?.remove();
}

/** Say that no answer came. */
function refuse(form) {
  const text = document.getElementById("connection").dataset.unsent;
  form.append(Object.assign(document.createElement("p"), { className: "error unsent", textContent: text }));
  announce(text);
}

/** Say in what is half written that the login has ended, and where to log in; whether there is any such form. */
export function endLogin() {
  const ended = document.getElementById("ended")?.content.firstElementChild;
  const forms = ended ? [...document.forms].filter((form) => edited.has(form)) : [];
  for (const form of forms) {
    if (form.querySelector(":scope > .ended")) continue;
    forget(form);
    form.append(ended.cloneNode(true));
    announce(ended.querySelector("span").textContent);
  }
  return forms.length > 0;
}

addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-enhance]")) return;
  event.preventDefault();
  if (form.getAttribute("aria-busy") !== "true") send(form, event.submitter);
});

addEventListener("input", ({ target }) => {
  if (!target.form) return;
  if (!edited.has(target.form)) edited.set(target.form, new Set());
  edited.get(target.form).add(target.name);
});

addEventListener("reset", ({ target }) => edited.delete(target));

addEventListener("click", (event) => {
  const { opens, closes } = event.target.closest?.("[data-opens], [data-closes]")?.dataset ?? {};
  const dialog = closes === "" ? event.target.closest("dialog") : document.getElementById(opens ?? closes);
  if (!dialog) return;
  event.preventDefault();
  if (opens) dialog.showModal();
  else dialog.close();
});

addEventListener("close", () => settle(location.href, "dialog"), { capture: true }); // of a dialog: it does not bubble

// What merges is loaded by the time that somebody may want to send something.
addEventListener("focusin", merging, { once: true });

raise(document);
settle(location.href, "done", "at");
const result = document.querySelector("#messages [data-announce]");
if (result) announce(result.textContent);

/**
 * Merges a page that was fetched into the one on the screen.
 *
 * What the reader is doing survives: focus, selection, open dialogs and details, fields that are half written, and the
 * errors of a form that was refused.
 */

import { offer } from "./copy.js";
import { isEdited, isFailed, raise } from "./forms.js";
import { Idiomorph } from "./idiomorph.js";
import { localise } from "./time.js";

const STATE = ["value", "checked", "selected"];
const POLICY = "morph";
const MESSAGES = "messages"; // what was said of the last action, which stays until the next one
const reader = document.body.dataset.user;
const policy = globalThis.trustedTypes?.createPolicy(POLICY, { createHTML: (text) => text }) ?? { createHTML: String };

/**
 * Merge an answer, and say whether it was a page of ours.
 *
 * `own` is the form whose answer it is: all of the page is as the answer has it, errors included.
 */
export function merge(response, text, { own } = {}) {
  const isOurs = new URL(response.url).origin === location.origin;
  const isPage = response.headers.get("Content-Type")?.startsWith("text/html");
  const page = isOurs && isPage && new DOMParser().parseFromString(policy.createHTML(text), "text/html");
  const main = page && page.getElementById("main");
  if (!main) return false;
  if ((page.body.dataset.user ?? reader) !== reader) return location.reload() ?? true; // somebody else has logged in
  localise(main);
  offer(main);
  const focused = document.activeElement;
  const row = focused.closest("main :is(tr, li)[id]")?.id;
  Idiomorph.morph(document.getElementById("main"), main, { callbacks: callbacks(own) });
  Idiomorph.morph(document.getElementById("nav"), page.getElementById("nav"));
  Idiomorph.morph(document.querySelector("header"), page.querySelector("header")); // who is logged in
  document.title = page.title;
  document.body.dataset.number = page.body.dataset.number ?? "";
  raise(document.getElementById("main"));
  if (document.activeElement === document.body && (own || focused !== document.body)) {
    const near = row && document.getElementById(row)?.querySelector("a, button"); // another control of the same thing
    (document.querySelector("dialog:modal") ?? near ?? document.getElementById("main")).focus({ preventScroll: true });
  }
  document.dispatchEvent(new Event("merged"));
  return true;
}

function callbacks(own) {
  return {
    beforeNodeMorphed(old, fresh) {
      if (old.nodeType !== Node.ELEMENT_NODE) return true;
      if (!own && (old.id === MESSAGES || isFailed(old))) return false;
      return !old.isEqualNode(fresh);
    },
    beforeNodeRemoved(node) {
      // What the answer to a form opened, such as a question back, is in no page that is fetched later.
      return Boolean(own) || !(node.nodeType === Node.ELEMENT_NODE && node.matches("dialog:modal"));
    },
    beforeAttributeUpdated(name, element) {
      if (name === "open") return false; // dialogs and details: as the reader has them
      if (!own && element.name === "version" && element.closest("dialog[open]")) return false; // of what the reader saw
      return !(STATE.includes(name) && isEdited(element));
    },
  };
}

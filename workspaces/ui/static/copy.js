/** Copies what an element says, and takes away what is shown for a while only. */

import { announce } from "./forms.js";

const COPIED_MS = 2000;

/** Show the buttons within an element, which do nothing without us. */
export function offer(within) {
  for (const button of within.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
}

/** Take away, in time or when the tab is left, what is not to stay on the screen. */
export function watch(within) {
  for (const element of within.querySelectorAll("[data-hides]")) {
    if (waiting.has(element)) continue;
    waiting.add(element);
    setTimeout(() => hide(element), Number(element.dataset.hides) * 1000);
  }
}

const waiting = new WeakSet();

function hide(element) {
  if (!element.isConnected) return;
  element.remove();
  if (!document.hidden) document.dispatchEvent(new Event("outdated"));
}

async function copy(button) {
  const target = document.querySelector(button.dataset.copy);
  await navigator.clipboard.writeText(target.value ?? target.textContent);
  button.classList.add("copied");
  announce(button.dataset.copied ?? "");
  setTimeout(() => button.classList.remove("copied"), COPIED_MS);
}

addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (button) copy(button);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) document.querySelectorAll("[data-hides]").forEach(hide);
});
document.addEventListener("merged", () => watch(document));

offer(document);
watch(document);

// Without this script the page works by its forms. With it: single keys, no flicker, and screen readers announce changes.
"use strict";

const KEYS = "beepgpt-review-keys";
let isBusy = false;

function setBusy(now) {
  isBusy = now;
  document.getElementById("main").setAttribute("aria-busy", String(now));
}

function notify(text, isFailure) {
  const line = document.createElement("span");
  line.textContent = text;
  line.classList.toggle("failed", isFailure);
  document.getElementById("notice").replaceChildren(line);
}

// What lives on the page takes its content from the new one; all else stays, and with it the reader's place.
function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const had = document.activeElement?.dataset.key;
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (next) old.replaceChildren(...next.childNodes);
  }
  notify(fresh.getElementById("notice").textContent.trim(), fresh.querySelector("#notice .failed") !== null);
  if (had) {
    const again = document.querySelector(`[data-key="${had}"]`);
    (again.disabled ? document.getElementById("main") : again).focus({ preventScroll: true });
  }
  window.scrollTo({ top: 0, behavior: "instant" });
}

async function send(form, button) {
  if (isBusy) return; // a key that is pressed twice must not judge what nobody has seen yet
  setBusy(true);
  try {
    const body = new URLSearchParams(new FormData(form, button));
    const answer = await fetch(button.getAttribute("formaction") ?? form.getAttribute("action"), { method: "POST", body });
    if (answer.ok) show(await answer.text());
    else notify(`This could not be done (${answer.status}): ${(await answer.text()).trim()}`, true);
  } catch {
    notify("The review has ended, and nothing more is kept: start it again where you started it.", true);
  } finally {
    setBusy(false);
  }
}

function areKeysOn() {
  return localStorage.getItem(KEYS) !== "off";
}

function showKeys() {
  const toggle = document.getElementById("keys");
  if (!toggle) return;
  toggle.hidden = false;
  toggle.setAttribute("aria-pressed", String(areKeysOn()));
  toggle.textContent = areKeysOn() ? "Keys are on" : "Keys are off";
}

document.addEventListener("submit", (event) => {
  if (event.target.getAttribute("id") !== "actions" || !event.submitter) return;
  event.preventDefault();
  send(event.target, event.submitter);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || event.isComposing || !areKeysOn()) return;
  const button = [...document.querySelectorAll("#actions [data-key]")].find((each) => each.dataset.key === event.key.toLowerCase());
  if (!button || button.disabled) return;
  event.preventDefault();
  send(button.form, button);
});

document.getElementById("keys")?.addEventListener("click", () => {
  localStorage.setItem(KEYS, areKeysOn() ? "off" : "on");
  showKeys();
});

showKeys();

// The page takes its content from a new one every few seconds; what is unfolded stays so, and with it the reader's place.
"use strict";

const EVERY = 5000;

async function look() {
  try {
    const answer = await fetch("/");
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = fresh.title;
    for (const old of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(old.id);
      if (!next) continue;
      const unfolded = [...old.querySelectorAll("details[open]")].map((each) => each.id);
      for (const id of unfolded) next.querySelector(`#${id}`)?.setAttribute("open", "");
      if (old.innerHTML !== next.innerHTML) old.replaceChildren(...next.childNodes);
    }
  } catch {
    document.getElementById("verdict").textContent = "It has stopped, or this page is of an earlier start: open the address that beepgpt up printed.";
  }
}

setInterval(look, EVERY);

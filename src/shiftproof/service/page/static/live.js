// The list of the latest inspections: asks for what is new, less often while nothing answers, and not while nobody looks.
import { elements } from "./announce.js";
import { showTimes } from "./times.js";

const EVERY = 2000;
const SLOWEST = 30000;
const SHOWN = 12;

export function startLive() {
  const list = document.querySelector("[data-live]");
  if (!list) return;
  const pause = document.querySelector("[data-pause]");
  let wait = EVERY;
  let timer = 0;
  let asking = false;

  async function look() {
    if (asking) return;
    asking = true;
    clearTimeout(timer);
    if (!document.hidden && pause.ariaPressed !== "true") {
      try {
        const answer = await fetch(`/live?after=${list.firstElementChild?.dataset.id ?? 0}`);
        if (!answer.ok) throw new Error(answer.statusText);
        show(elements(await answer.text()));
        wait = EVERY;
      } catch {
        wait = Math.min(2 * wait, SLOWEST);
      }
    }
    asking = false;
    timer = setTimeout(look, wait);
  }

  function show(fresh) {
    if (!fresh.length) return;
    document.querySelector("[data-none]").hidden = true;
    for (const item of fresh) {
      item.classList.add("new");
      showTimes(item);
    }
    list.prepend(...fresh);
    while (list.children.length > SHOWN && !list.lastElementChild.contains(document.activeElement)) list.lastElementChild.remove();
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.ariaPressed !== "true";
    pause.ariaPressed = String(paused);
    pause.textContent = paused ? "Go on" : "Pause";
  });
  document.addEventListener("visibilitychange", look);
  document.addEventListener("shiftproof-inspected", look);
  timer = setTimeout(look, EVERY);
}

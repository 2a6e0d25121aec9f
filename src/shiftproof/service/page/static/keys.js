// Single keys, as the help lists them; they can be switched off, and never act while someone is typing.
import { reviewRow } from "./reviews.js";
import { toggle } from "./viewer.js";

const KEY = "shiftproof-keys";
const links = () => [...document.querySelectorAll("[data-rows] th a, [data-strip] a")];

export function followKeys() {
  const help = document.getElementById("help");
  const on = help.querySelector("[data-keys-on]");
  on.checked = localStorage.getItem(KEY) !== "off";
  on.addEventListener("change", () => localStorage.setItem(KEY, on.checked ? "on" : "off"));
  const open = document.querySelector("[data-help]");
  if (open) open.hidden = false;
  open?.addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox], [type=range]), select, textarea");
    if (event.key === "Escape" && typing) typing.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || typing || help.open || event.isComposing) return;
    if (event.target.matches("[type=range]") && event.key.startsWith("Arrow")) return;
    if (event.key === "?") help.showModal();
    else if (!on.checked || !act(event)) return;
    event.preventDefault();
  });
}

function act(event) {
  switch (event.key.length === 1 ? event.key.toLowerCase() : event.key) {
    case "j": return step(1);
    case "k": return step(-1);
    case "ArrowDown": return event.target.closest("[data-rows], [data-strip]") ? step(1) : false;
    case "ArrowUp": return event.target.closest("[data-rows], [data-strip]") ? step(-1) : false;
    case "ArrowRight": return document.querySelector("[data-older]") ? step(1) : false;
    case "ArrowLeft": return document.querySelector("[data-newer]") ? step(-1) : false;
    case "c": return decide("[data-confirm]", false);
    case "o": return decide("[data-overrule]", true);
    case "n": return focus("[data-note]");
    case "h": return toggle("heat");
    case "b": return toggle("boxes");
    default: return false;
  }
}

function step(by) {
  const way = document.querySelector(by > 0 ? "[data-older]" : "[data-newer]");
  if (way) return press(way);
  const all = links();
  if (!all.length) return false;
  const strip = all[0].closest("[data-strip]");
  const at = all.findIndex((link) => (strip ? link.ariaCurrent === "true" : link === document.activeElement));
  const next = all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)];
  next.focus();
  if (strip) next.click();
  return true;
}

function decide(button, overrule) {
  const row = document.activeElement.closest("[data-rows] tr");
  if (!row) return press(document.querySelector(button));
  reviewRow(row, overrule);
  return true;
}

function press(button) {
  button?.click();
  return Boolean(button);
}

function focus(field) {
  const found = document.querySelector(field);
  found?.focus();
  return Boolean(found);
}

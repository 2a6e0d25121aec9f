// Reviews: who is reviewing is remembered in this browser; on lists a review is sent without leaving the page.
import { announce } from "./announce.js";

const KEY = "shiftproof-operator";

export function rememberOperator(root) {
  for (const field of root.querySelectorAll("[data-operator]")) {
    field.value ||= localStorage.getItem(KEY) ?? "";
    field.addEventListener("change", () => localStorage.setItem(KEY, field.value));
  }
}

export async function review(id, verdict, words = {}) {
  const body = { verdict, operator: words.operator ?? localStorage.getItem(KEY) ?? "", note: words.note ?? "" };
  const answer = await fetch(`/v1/inspections/${id}/review`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(Object.fromEntries(Object.entries(body).filter(([, value]) => value))),
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

export async function reviewRow(row, overrule) {
  const other = row.dataset.verdict === "good" ? "defective" : "good";
  const verdict = overrule ? other : row.dataset.verdict;
  const place = row.querySelector("[data-truth]");
  try {
    await review(row.dataset.id, verdict);
    const outcome = document.createElement("span");
    outcome.className = overrule ? "outcome over" : "outcome";
    outcome.textContent = overrule ? `↺ overruled: ${verdict}` : "✓ confirmed";
    place.replaceChildren(outcome);
    announce(`Inspection ${row.dataset.id} ${overrule ? "overruled" : "confirmed"}: ${verdict}`);
  } catch (error) {
    place.textContent = error.message;
    announce(error.message);
  }
}

// Images dropped, pasted or chosen: sent one after another, each under a key of its own, so that trying again inspects nothing twice.
import { rememberOperator, review } from "./reviews.js";
import { elements, announce } from "./announce.js";
import { showTimes } from "./times.js";
import { dress } from "./viewer.js";

const TRIES = 20;

export function startDrop() {
  const form = document.querySelector("[data-drop]");
  if (!form) return;
  const input = form.querySelector("input[type=file]");
  const progress = form.querySelector(".progress");
  const found = document.querySelector(".found");
  const strip = document.querySelector("[data-strip]");
  const place = document.querySelector("[data-detail-place]");
  const queue = [];
  let sent = 0;
  let working = false;

  form.classList.add("scripted");
  form.querySelector(".also").hidden = false;
  mark(place.querySelector("[data-detail]")?.dataset.detail);

  input.addEventListener("change", () => { take(input.files); form.reset(); });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) { event.preventDefault(); take(event.clipboardData.files); }
  });
  for (const type of ["dragenter", "dragover"]) {
    document.addEventListener(type, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      form.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) form.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    form.classList.remove("over");
    take(event.dataTransfer.files);
  });
  strip.addEventListener("click", (event) => {
    const item = event.target.closest("[data-id]");
    if (!item || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(item.dataset.id);
  });
  place.addEventListener("submit", async (event) => {
    const { dataset, elements: fields } = event.target;
    event.preventDefault();
    try {
      await review(dataset.review, event.submitter.value, { operator: fields.operator.value, note: fields.note.value });
      await show(dataset.review);
      place.querySelector("[data-confirm]").focus();
      announce("The review is written down");
    } catch (error) {
      showProgress(error.message, true);
    }
  });

  function take(files) {
    queue.push(...files);
    if (!working) work();
  }

  async function work() {
    working = true;
    let first = true;
    sent = 0;
    while (queue.length) {
      showProgress(`Inspecting ${sent + 1} of ${sent + queue.length} …`);
      const items = await send(queue.shift());
      if (!items) break;
      sent += 1;
      found.hidden = false;
      strip.append(...items);
      for (const item of items) showTimes(item);
      const id = items.find((item) => item.dataset.id)?.dataset.id;
      if (id && first) { first = false; await show(id); }
      document.dispatchEvent(new Event("shiftproof-inspected"));
    }
    working = false;
    if (!queue.length && !progress.classList.contains("failed")) {
      progress.hidden = true;
      announce(`${sent} image${sent === 1 ? "" : "s"} inspected`);
    }
  }

  async function send(file) {
    const key = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
    for (let attempt = 1; attempt <= TRIES; attempt += 1) {
      const body = new FormData();
      body.append("files", file, file.name);
      let wait = 2;
      try {
        const answer = await fetch(`${form.action}?fragment=true`, { method: "POST", body, headers: { "Idempotency-Key": key } });
        if (answer.ok) return elements(await answer.text());
        wait = Number(answer.headers.get("Retry-After"));
        const { error } = await answer.json();
        if (!wait) return showProgress(error, true);
        showProgress(`${error} (once more in ${wait} s)`);
      } catch {
        showProgress("The station does not answer; once more in 2 s.");
      }
      await new Promise((resume) => setTimeout(resume, 1000 * wait));
    }
    return showProgress(`${file.name} could not be sent.`, true);
  }

  function showProgress(text, failed = false) {
    progress.hidden = false;
    progress.classList.toggle("failed", failed);
    progress.textContent = text;
    if (failed) queue.length = 0;
  }

  async function show(id) {
    const answer = await fetch(`/inspections/${id}/detail`);
    if (!answer.ok) return showProgress((await answer.json()).error, true);
    place.replaceChildren(...elements(await answer.text()));
    showTimes(place);
    dress(place);
    rememberOperator(place);
    mark(id);
    announce(place.querySelector(".verdict").textContent.trim());
  }

  function mark(id) {
    for (const item of strip.querySelectorAll("[data-id]")) {
      item.querySelector("a").ariaCurrent = item.dataset.id === id ? "true" : null;
    }
  }
}

// The picture of an inspection: how strong its heatmap is, and which region a line of the list means.
export function startViewer() {
  dress(document);
  document.addEventListener("input", (event) => {
    if (!event.target.matches("[data-strength]")) return;
    event.target.closest(".viewer").querySelector(".heat").style.opacity = event.target.value / 100;
  });
  for (const [type, lit] of [["pointerover", true], ["pointerout", false]]) {
    document.addEventListener(type, (event) => {
      const line = event.target.closest?.("[data-of-region]");
      const box = line?.closest(".exhibit").querySelector(`[data-region="${line.dataset.ofRegion}"]`);
      box?.classList.toggle("lit", lit);
    });
  }
}

export function dress(root) {
  for (const slide of root.querySelectorAll(".slide")) slide.hidden = false;
}

export function toggle(what) {
  const box = document.querySelector(`[data-show="${what}"]`);
  box?.click();
  return Boolean(box);
}

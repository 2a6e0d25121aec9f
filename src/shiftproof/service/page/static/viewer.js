// The picture of an inspection: how strong its heatmap is, which region a line of the list means, and a closer look.
const CLOSER = 3;
const FULL = 8192;

export function startViewer() {
  dress(document);
  document.addEventListener("input", (event) => {
    if (!event.target.matches("[data-strength]")) return;
    event.target.closest(".viewer").querySelector(".heat").style.opacity = event.target.value / 100;
  });
  for (const [type, lit] of [["pointerover", true], ["pointerout", false]]) {
    document.addEventListener(type, (event) => box(event.target)?.classList.toggle("lit", lit));
  }
  document.addEventListener("click", (event) => {
    const stage = event.target.closest(".detail .stage");
    const button = event.target.closest("[data-of-region] button");
    if (stage) {
      const { left, top } = stage.getBoundingClientRect();
      zoom(stage, stage.classList.contains("near") ? 1 : CLOSER, event.clientX - left, event.clientY - top);
    } else if (button) {
      zoomTo(button);
    }
  });
}

// What a part of a page that has just come needs.
export function dress(root) {
  for (const slide of root.querySelectorAll(".slide")) slide.hidden = false;
  for (const button of root.querySelectorAll("[data-of-region] button")) button.disabled = false;
  for (const viewer of root.querySelectorAll(".viewer")) viewer.classList.add("scripted");
}

export function toggle(what) {
  const check = document.querySelector(`[data-show="${what}"]`);
  check?.click();
  return Boolean(check);
}

function box(target) {
  const line = target.closest?.("[data-of-region]");
  return line?.closest(".detail").querySelector(`[data-region="${line.dataset.ofRegion}"]`);
}

function zoomTo(button) {
  const stage = button.closest(".detail").querySelector(".stage");
  const region = box(button)?.getBBox();
  if (!stage || !region) return;
  const near = button.ariaPressed !== "true";
  const { width, height } = stage.querySelector(".boxes").viewBox.baseVal;
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const x = (stage.clientWidth - width * scale) / 2 + (region.x + region.width / 2) * scale;
  const y = (stage.clientHeight - height * scale) / 2 + (region.y + region.height / 2) * scale;
  zoom(stage, near ? CLOSER : 1, x, y);
  button.ariaPressed = String(near);
}

// Around a point of the stage, which stays where it is: so nothing beyond the picture comes into sight.
function zoom(stage, by, x, y) {
  stage.classList.toggle("near", by > 1);
  for (const other of stage.closest(".detail").querySelectorAll("[data-of-region] button")) other.ariaPressed = "false";
  for (const layer of stage.children) {
    if (by > 1) layer.style.transformOrigin = `${x}px ${y}px`;
    layer.style.transform = by > 1 ? `scale(${by})` : "";
    if (by > 1 && layer.src) {
      const whole = layer.src.replace(/longest=\d+/, `longest=${FULL}`);
      if (layer.src !== whole) layer.src = whole;
    }
  }
}

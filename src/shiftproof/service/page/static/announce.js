// Says a line to a screen reader.
export function announce(text) {
  const status = document.getElementById("status");
  if (status) status.textContent = text;
}

// A part of a page that the station has rendered: every value in it is escaped there.
export function elements(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return [...template.content.children];
}

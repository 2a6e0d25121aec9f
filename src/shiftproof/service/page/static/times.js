// Times are sent in UTC; here they become those of the clock on the wall.
const clock = new Intl.DateTimeFormat("sv-SE", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("sv-SE", { year: "numeric", month: "2-digit", day: "2-digit" });

export function showTimes(root) {
  const today = day.format(new Date());
  for (const element of root.querySelectorAll("time[datetime]")) {
    const time = new Date(element.dateTime);
    const date = day.format(time);
    element.title = `${element.dateTime} (UTC)`;
    element.textContent = date === today ? clock.format(time) : `${date} ${clock.format(time).slice(0, 5)}`;
  }
  const zone = root.querySelector("[data-zone]");
  if (zone) {
    zone.value = String(-new Date().getTimezoneOffset());
    for (const name of root.querySelectorAll("[data-zone-name]")) name.textContent = "";
  }
}

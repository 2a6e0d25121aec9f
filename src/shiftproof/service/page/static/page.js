// What scripts add to the page; every screen works without them. Each part looks for its own place and does nothing without it.
import { showTimes } from "./times.js";
import { followKeys } from "./keys.js";
import { rememberOperator } from "./reviews.js";
import { startViewer } from "./viewer.js";
import { startDrop } from "./drop.js";
import { startLive } from "./live.js";

showTimes(document);
rememberOperator(document);
startViewer();
startDrop();
startLive();
followKeys();

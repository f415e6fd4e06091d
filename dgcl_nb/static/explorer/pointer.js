// Mouse, pen and finger: dragging draws the lasso or moves the picture, the wheel zooms.
import { throttle } from "../front/draw.js";
import { pointAt } from "./find.js";
import { insideOf } from "./lasso.js";

const CLICK_REACH = 5; // CSS pixels: who moved less has clicked

// The place of an event in the picture.
function placeIn(over, event) {
  const box = over.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function distance([x, y], [x0, y0]) {
  return Math.hypot(x - x0, y - y0);
}

// Whether an event is of another finger, or pen, than the one that draws. Who comes first of its kind may
// begin anew: the end of a drag may have been missed.
export function isAnother(drawing, event) {
  if (!drawing || drawing.pointer === event.pointerId) return false;
  return event.type !== "pointerdown" || !event.isPrimary;
}

// A drag: whose it is, where it began, how far it went, and the path of the lasso or the view that is moved.
function beginDrag(app, place, { pointerId, shiftKey: adds }) {
  const drag = { pointer: pointerId, from: place, farthest: 0 };
  return app.moves ? { ...drag, view: { ...app.view } } : { ...drag, adds, path: [place] };
}

function continueDrag(app, place, places) {
  const { drag } = app;
  if (drag.path) {
    for (const each of places) drag.farthest = Math.max(drag.farthest, distance(each, drag.from));
    drag.path.push(...places);
    app.mark();
    return;
  }
  drag.farthest = Math.max(drag.farthest, distance(place, drag.from));
  const [dx, dy] = [place[0] - drag.from[0], place[1] - drag.from[1]];
  app.view.x = drag.view.x - dx / app.view.scale;
  app.view.y = drag.view.y + dy / app.view.scale;
  app.fitted = false;
  app.draw();
}

function endDrag(app, drag, place) {
  const points = app.points();
  if (drag.farthest < CLICK_REACH) app.click(pointAt(app, points, ...place));
  else if (drag.path) app.choose(insideOf(app, points, drag.path), drag.adds);
}

function listenToDrag(app) {
  const { over } = app;
  const hover = throttle((x, y) => {
    if (!app.drag) app.hover(pointAt(app, app.points(), x, y));
  });
  const end = (event) => {
    if (isAnother(app.drag, event)) return;
    const ended = app.drag;
    app.drag = null;
    if (ended && event.type !== "pointercancel") endDrag(app, ended, placeIn(over, event));
    app.mark();
  };
  over.addEventListener("pointerdown", (event) => {
    if (event.button > 0 || isAnother(app.drag, event)) return;
    over.setPointerCapture(event.pointerId);
    over.focus({ preventScroll: true });
    app.drag = beginDrag(app, placeIn(over, event), event);
    app.hover(-1);
  });
  over.addEventListener("pointermove", (event) => {
    const place = placeIn(over, event);
    if (isAnother(app.drag, event)) return;
    if (!app.drag) {
      hover(...place);
      return;
    }
    // a browser hands over several moves at once
    const moves = event.getCoalescedEvents?.() || [event];
    continueDrag(app, place, moves.map((move) => placeIn(over, move)));
  });
  over.addEventListener("pointerup", end);
  over.addEventListener("pointercancel", end);
  over.addEventListener("pointerleave", () => {
    if (!app.drag) hover(-99, -99); // outside: no point is there
  });
}

// Only once the picture has the focus: otherwise who scrolls through a notebook would be caught by
// every picture on the way.
function listenToWheel(app) {
  const { over } = app;
  const zoom = (event) => {
    if (document.activeElement !== over && !event.ctrlKey) return;
    event.preventDefault();
    app.zoom(2 ** (-event.deltaY / 400), ...placeIn(over, event));
  };
  over.addEventListener("wheel", zoom, { passive: false });
  over.addEventListener("dblclick", () => app.fit());
}

export function listenToPointer(app) {
  listenToDrag(app);
  listenToWheel(app);
}

// When the monitor says that it hears nothing, and what its buttons send.
import assert from "node:assert/strict";
import test from "node:test";
import { nextAsked, showButtons } from "../../dgcl_nb/static/monitor/head.js";
import { silence } from "../../dgcl_nb/static/monitor/silence.js";

test("silence: nothing is said while news are fresh", () => {
  assert.equal(silence("training", 0), "");
  assert.equal(silence("training", 7400), "");
});

test("silence: after eight seconds, with their number", () => {
  assert.match(silence("training", 7500), /^No news for 8 s: the kernel is busy/);
  assert.match(silence("quiet", 61_000), /^No news for 61 s:/);
});

test("silence: a run that is over owes no news", () => {
  for (const state of ["finished", "stopped", "failed"]) assert.equal(silence(state, 600_000), "");
});

test("silence: who looks seldom, or only when asked, is not taken for dead", () => {
  assert.equal(silence("training", 15_000, 10), "");
  assert.match(silence("training", 20_000, 10), /^No news for 20 s/);
  assert.match(silence("training", 8000, 0.5), /^No news for 8 s/);
  assert.equal(silence("training", 600_000, null), "");
});

// As much of a page as has a focus.
function pageOf(names) {
  const page = { focus: "" };
  const part = (name) => ({
    hidden: false,
    setAttribute() {},
    matches: () => page.focus === name,
    focus: () => {
      page.focus = name;
    }
  });
  page.keys = Object.fromEntries(names.map((name) => [name, part(name)]));
  return { ...page, page, parts: { buttons: {}, title: part("title") } };
}

test("buttons: where the one with the focus goes, the focus is not lost", () => {
  const { page, keys, parts } = pageOf(["pause", "stop", "go_on"]);
  showButtons(parts, keys, { pause: true, stop: true });
  assert.deepEqual([page.focus, keys.go_on.hidden], ["", true]); // nobody was at a button
  keys.stop.focus();
  showButtons(parts, keys, { pause: false, stop: false });
  assert.equal(page.focus, "stop"); // it cannot be pressed now, and is still there
  showButtons(parts, keys, { go_on: true });
  assert.equal(page.focus, "go_on");
  showButtons(parts, keys, {});
  assert.deepEqual([page.focus, parts.buttons.hidden], ["title", true]);
});

test("asked: a button that is pressed again on a page that was loaded anew is another wish", () => {
  const once = nextAsked([], "pause");
  assert.deepEqual(once, ["pause", 1]);
  assert.deepEqual(nextAsked(once, "pause"), ["pause", 2]);
  assert.deepEqual(nextAsked(undefined, "stop"), ["stop", 1]);
});

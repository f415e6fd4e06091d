// When the monitor says that it hears nothing, and what its buttons send.
import assert from "node:assert/strict";
import test from "node:test";
import { nextAsked } from "../../dgcl_nb/static/monitor/head.js";
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

test("asked: a button that is pressed again on a page that was loaded anew is another wish", () => {
  const once = nextAsked([], "pause");
  assert.deepEqual(once, ["pause", 1]);
  assert.deepEqual(nextAsked(once, "pause"), ["pause", 2]);
  assert.deepEqual(nextAsked(undefined, "stop"), ["stop", 1]);
});

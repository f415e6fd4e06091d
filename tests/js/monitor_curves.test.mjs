// The curves of the monitor: whatever a page has drawn before, it draws the model's figure as a whole.
import assert from "node:assert/strict";
import test from "node:test";
import { drawing, render } from "../../dgcl_nb/static/monitor/curves.js";

const FIGURE = JSON.stringify({ data: [{ y: [3, 2] }], layout: { height: 300, width: 1020 } });
const NEXT = JSON.stringify({ data: [{ y: [3, 2, 1] }, { y: [5] }], layout: { height: 570 } });

// A browser of which no more is there than the front asks for.
function fakePage(width) {
  const drawn = [];
  const made = [];
  const observers = [];
  globalThis.document = {
    createElement: () => made[made.push({ clientWidth: width, style: {}, append() {} }) - 1]
  };
  globalThis.ResizeObserver = class {
    constructor(call) {
      this.call = call;
      observers.push(this);
    }

    observe() {
      this.call();
    }

    disconnect() {}
  };
  globalThis.Plotly = { react: (place, data, layout) => drawn.push({ data, layout }), purge() {} };
  return { drawn, made, observers };
}

function fakeModel(figure) {
  const calls = [];
  return {
    get: () => figure,
    set(text) {
      figure = text;
      for (const call of calls) call();
    },
    on: (event, call) => calls.push(call),
    off: (event, call) => calls.splice(calls.indexOf(call), 1)
  };
}

test("drawing: as wide as the place, but not narrower than its panels need", () => {
  assert.deepEqual(drawing(FIGURE, 1400).layout, { height: 300, width: 1400, autosize: false });
  assert.equal(drawing(FIGURE, 200).layout.width, 860);
});

test("curves: each change is drawn as a whole, with the traces and the layout that it brings", () => {
  const { drawn } = fakePage(900);
  const model = fakeModel(FIGURE);
  const end = render({ model, el: { append() {} } });
  model.set(NEXT);
  assert.deepEqual(drawn.map(({ data }) => data.length), [1, 2]);
  assert.deepEqual(drawn[1].data[0].y, [3, 2, 1]);
  end();
  model.set(FIGURE);
  assert.equal(drawn.length, 2);
});

test("curves: in a narrow place the figure is smaller as a whole, and leaves no gap below it", () => {
  const { made } = fakePage(645);
  render({ model: fakeModel(FIGURE), el: { append() {} } });
  const [place, root] = made;
  assert.deepEqual(place.style, { width: "860px", transform: "scale(0.75)" });
  assert.equal(root.style.height, "225px");
});

test("curves: a page that is opened late draws what one that was there from the start shows", () => {
  const early = fakePage(900);
  const model = fakeModel(FIGURE);
  render({ model, el: { append() {} } });
  model.set(NEXT);
  const last = early.drawn.at(-1);
  const late = fakePage(900);
  render({ model, el: { append() {} } });
  assert.deepEqual(late.drawn.at(-1), last);
});

test("curves: nothing is drawn where there is no figure or no place", () => {
  const { drawn } = fakePage(0);
  render({ model: fakeModel(FIGURE), el: { append() {} } });
  fakePage(900);
  render({ model: fakeModel(""), el: { append() {} } });
  assert.equal(drawn.length, 0);
});

// The list of classes: a box to tick, a colour, and how many points of it are shown.
import { check } from "../front/choice.js";
import { button, make } from "../front/elements.js";
import { tell } from "./tell.js";
import { classChip, thousands } from "./words.js";

function linksOf(choose, app) {
  const links = make("span", "dgcl-links");
  const choices = { all: () => app.scene.class_names.map((_, c) => c), none: () => [] };
  for (const [text, wanted] of Object.entries(choices)) {
    const link = button(text, () => choose(wanted()));
    link.setAttribute("aria-label", `${text} classes`);
    links.append(link);
  }
  return links;
}

// One line of the list; while the pointer is over it, other classes are drawn pale.
function classLine(app, c, onChange) {
  const line = check(app.scene.class_names[c], true, onChange);
  const name = line.querySelector(".dgcl-name");
  line.count = make("span", "dgcl-value");
  name.prepend(classChip(app.scene, c));
  name.append(line.count);
  const emphasise = (emphasis) => () => {
    app.emphasis = emphasis;
    app.draw();
  };
  line.addEventListener("pointerenter", emphasise(c));
  line.addEventListener("pointerleave", emphasise(-1));
  return line;
}

export function classControl(app) {
  const { model } = app;
  const box = make("fieldset", "dgcl-classes");
  const scroll = make("div", "dgcl-scroll");
  let lines = [];
  const choose = (classes) => {
    // all ticked is no condition
    const isAll = classes.length === app.scene.class_names.length;
    tell(model, "classes", isAll ? null : classes);
    app.draw();
  };
  const ticked = () => lines.flatMap((line, c) => (line.input.checked ? [c] : []));
  box.build = () => {
    lines = app.scene.class_names.map((_, c) => classLine(app, c, () => choose(ticked())));
    scroll.replaceChildren(...lines);
    box.refresh();
  };
  box.refresh = () => {
    const wanted = model.get("classes");
    lines.forEach((line, c) => line.set(!wanted || wanted.includes(c)));
  };
  box.count = (perClass) => {
    lines.forEach((line, c) => {
      line.count.textContent = thousands(perClass[c]);
    });
  };
  model.on("change:classes", () => {
    box.refresh();
    app.draw();
  });
  box.append(make("legend", "", "Classes", linksOf(choose, app)), scroll);
  box.build();
  return box;
}

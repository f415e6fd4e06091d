// Elements with names.

// make("div", "dgcl-note", "text", otherElement)
export function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// The element that holds a front. JupyterLab takes single keys for itself unless the very element
// that has the focus says otherwise: each is told so when it gets the focus.
export function frontRoot(el, label) {
  const root = make("div", "dgcl-front");
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", label);
  root.addEventListener("focusin", (event) => {
    event.target.setAttribute("data-lm-suppress-shortcuts", "true");
  });
  el.append(root);
  return root;
}

// A control with its name in a <label> around it: no id is needed.
export function labelled(text, control) {
  const field = make("label", "dgcl-field", make("span", "dgcl-name", text), control);
  field.input = control;
  return field;
}

// A sentence on what a control is for: beside the pointer, and for who listens to the page.
export function explain(field, text) {
  field.title = text;
  (field.input || field).setAttribute("aria-description", text);
  return field;
}

export function button(label, onClick) {
  const node = make("button", "dgcl-button", label);
  node.type = "button";
  node.addEventListener("click", onClick);
  return node;
}

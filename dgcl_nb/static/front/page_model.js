// The model of a page without a kernel: the four functions of an anywidget model, on plain values.

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new DataView(bytes.buffer);
}

// Values as Python wrote them, with { "$bytes": base64 } in place of bytes.
export function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (!value || typeof value !== "object") return value;
  if (typeof value.$bytes === "string") return bytesOf(value.$bytes);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, revive(inner)]));
}

export function pageModel(values) {
  const now = revive(values);
  const calls = {};
  return {
    isPage: true,
    get(name) {
      return now[name];
    },
    save_changes() {}, // nobody to tell
    set(name, value) {
      if (now[name] === value) return;
      now[name] = value;
      // a copy: a function that is called may leave the list
      for (const fn of [...(calls[`change:${name}`] || [])]) fn();
    },
    on(event, fn) {
      for (const name of event.split(" ")) {
        calls[name] = calls[name] || [];
        calls[name].push(fn);
      }
    },
    off(event, fn) {
      calls[event] = (calls[event] || []).filter((other) => other !== fn);
    }
  };
}

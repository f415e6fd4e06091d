// In which order points are drawn: what must not be hidden comes last.

// The groups, from below: hidden by the filter; stepping back for others; plain; and never to be hidden:
// where colours show it, what a network gets wrong.
export const GROUPS = ["hidden", "pale", "plain", "late"];
const [HIDDEN, PALE, PLAIN, LATE] = GROUPS.keys();

// 1 for each value of a colouring that is drawn late; null where none is.
function lateValues({ by, table }) {
  const values = { change: [1, 2], right: [0] }[by];
  if (!values) return null;
  const late = new Uint8Array(table.length);
  for (const value of values) late[value] = 1;
  return late;
}

// Which group each point belongs to.
function groupPoints(app, { n, shown }, paint) {
  const { dim } = app;
  const late = lateValues(app);
  const group = new Uint8Array(n);
  for (let i = 0; i < n; i++) {
    if (!shown[i]) continue; // HIDDEN
    if (dim && dim[i]) group[i] = PALE;
    else group[i] = late && late[paint[i]] ? LATE : PLAIN;
  }
  return group;
}

// A counting sort: the rows of group g are rows[start[g]] to rows[start[g + 1] - 1].
export function orderPoints(app, points, paint) {
  const group = groupPoints(app, points, paint);
  const start = new Uint32Array(GROUPS.length + 1);
  for (let i = 0; i < points.n; i++) start[group[i] + 1]++;
  for (let g = 0; g < GROUPS.length; g++) start[g + 1] += start[g];
  const next = start.slice();
  if (!app.order || app.order.length !== points.n) app.order = new Uint32Array(points.n);
  const rows = app.order;
  for (let i = 0; i < points.n; i++) rows[next[group[i]]++] = i;
  return { rows, start };
}

// How each group is drawn, as [name, first, end]; hidden points only where specks are wanted.
export function drawnGroups(app, start) {
  const all = GROUPS.map((name, g) => [name, start[g], start[g + 1]]);
  return all.slice(app.ghosts ? HIDDEN : PALE).filter(([, first, end]) => end > first);
}

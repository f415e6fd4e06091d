// A kernel that has died sends no word of it; so the page counts the seconds since the last news.

const PATIENCE = 8; // seconds
const OVER = ["finished", "stopped", "failed"];

// What to say of a run in this state; empty where news are fresh, or none will come. `wait`: the seconds
// between two looks; null where nobody looks but who asks for it.
export function silence(state, milliseconds, wait = 0) {
  const seconds = Math.round(milliseconds / 1000);
  if (OVER.includes(state) || wait === null || seconds < Math.max(PATIENCE, 2 * wait)) return "";
  return (
    `No news for ${seconds} s: the kernel is busy with a cell or was closed, or the monitor was halted. ` +
    "What is shown is from then; a run in another process goes on."
  );
}

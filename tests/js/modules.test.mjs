// Every module can be imported by itself: it names all that it needs, and does nothing before it is asked.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { moduleNames, STATIC } from "./helpers.mjs";

const isModule = (name) => /^export /m.test(readFileSync(new URL(name, STATIC), "utf8"));

for (const name of moduleNames().filter(isModule)) {
  test(name, async () => {
    const found = await import(new URL(name, STATIC));
    assert.ok(Object.keys(found).length > 0);
  });
}

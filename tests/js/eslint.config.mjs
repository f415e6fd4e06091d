// Rules for dgcl_nb/static and for the tests beside this file: make lint-js
const BROWSER = [
  "atob", "Blob", "cancelAnimationFrame", "clearInterval", "clearTimeout", "console", "DecompressionStream",
  "document", "getComputedStyle", "ImageData", "matchMedia", "MutationObserver", "navigator", "Option",
  "performance", "requestAnimationFrame", "ResizeObserver", "Response", "setInterval", "setTimeout", "URL",
  "window"
];
const NODE = ["process", "console", "Buffer", "URL"];

const known = (names) => Object.fromEntries(names.map((name) => [name, "readonly"]));

const rules = {
  "no-undef": "error",
  "no-unused-vars": "error",
  "no-redeclare": "error",
  "no-dupe-keys": "error",
  "no-unreachable": "error",
  "no-shadow": "error",
  "no-sequences": "error",
  "no-var": "error",
  "prefer-const": "error",
  "eqeqeq": "error",
  "one-var": ["error", "never"],
  "no-multi-assign": "error",
  "no-nested-ternary": "error",
  "max-statements-per-line": ["error", { max: 1 }],
  "max-len": ["error", { code: 110 }],
  "max-lines": ["error", { max: 150 }],
  "semi": ["error", "always"]
};

const flat = (files, names) => ({
  files,
  rules,
  languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: known(names) },
  linterOptions: { reportUnusedDisableDirectives: "error" }
});

export default [flat(["dgcl_nb/static/**/*.js"], BROWSER), flat(["tests/js/*.mjs"], NODE)];

// The embedded run files: every figure that the script shows comes from them.

const root = document.documentElement;
const runs = [...document.querySelectorAll('script[type="application/json"]')].map(
  (element) => JSON.parse(element.textContent),
);
const several = runs.length > 1;

// Every point by its id, `RUN.POINT`: also those that no figure draws and no row lists.
const points = new Map();
runs.forEach((run, r) => {
  run.points.forEach((point, p) => {
    const id = `${r}.${p}`;
    points.set(id, { id, run: r, point });
  });
});

// What belongs to each point: marks, labels, drop lines and its row. A label can belong to several.
const idsOf = (element) => element.dataset.points.split(" ");
const owned = [...document.querySelectorAll("[data-points]")];
const elementsOf = new Map();
for (const element of owned) {
  for (const id of idsOf(element)) {
    if (!elementsOf.has(id)) elementsOf.set(id, []);
    // A path belongs to a whole sweep: it goes when all of its points are gone, and is not marked with one of them.
    if (!element.classList.contains("sweep")) elementsOf.get(id).push(element);
  }
}

const STAGES = ["embed", "qkv", "attention", "out_proj", "gate_up", "down", "lm_head"];
const letter = (run) => (run < 26 ? String.fromCharCode(65 + run) : String(run + 1));
const typesOf = (point) => `${point.weights}/${point.activations}/${point.kv}`;
const invalid = (point) => point.status === "invalid";

// `decode attention, batch 8`, with the run's letter where there are several.
function nameOf({ run, point }) {
  const tokens = point.phase === "prefill" ? `, ${point.tokens} tokens` : "";
  const riding = point.chunk ? ` with ${point.chunk.tokens} of a prompt` : "";
  const pages = point.kv_page ? `, pages of ${point.kv_page}` : "";
  const of = several ? `${letter(run)}: ` : "";
  const ranks = point.ranks > 1 ? `, ${point.ranks} ranks` : "";
  return `${of}${point.phase} ${point.stage ?? "step"}${riding}${pages}, batch ${point.batch}${tokens}${ranks}`;
}

// Whether two points are the same work.
const WORK = [
  "model",
  "phase",
  "stage",
  "batch",
  "tokens",
  "context",
  "weights",
  "head",
  "activations",
  "kv",
  "kv_page",
  "chunk",
  "ranks",
];
// A chunk is an object, and files before version 6 have neither it nor pages.
const sameWork = (a, b) =>
  WORK.every((field) => JSON.stringify(a[field] ?? null) === JSON.stringify(b[field] ?? null));

// An element with a class and contents: text, or other elements. Nothing here ever parses markup.
function make(tag, attributes, ...contents) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...contents);
  return element;
}


// Sorting the table by the exact values, and a button in each row to pin it.

const tableOf = document.getElementById("points");
const body = tableOf.tBodies[0];
const rowsInOrder = [...body.rows];

// What a column sorts by. What an invalid point does not show, it is not sorted by either.
const unlessInvalid = (of) => (point) => (invalid(point) ? null : of(point));
const KEYS = {
  work: (p) => 100 * ["prefill", "decode", "mixed"].indexOf(p.phase) + (p.stage === null ? 0 : 1 + STAGES.indexOf(p.stage)),
  run: (p, run) => run,
  batch: (p) => p.batch,
  tokens: (p) => p.tokens,
  context: (p) => p.context,
  types: typesOf,
  ranks: (p) => p.ranks,
  rate: unlessInvalid((p) => p.tokens_per_second),
  ms: unlessInvalid((p) => p.seconds.median),
  interval: unlessInvalid((p) => Math.max(p.seconds.high - p.seconds.median, p.seconds.median - p.seconds.low) / p.seconds.median),
  samples: (p) => p.seconds.count,
  share: unlessInvalid((p) => p.share_of_step),
  bandwidth: unlessInvalid((p) => p.bytes_per_second),
  arithmetic: unlessInvalid((p) => p.flops_per_second),
  intensity: (p) => p.intensity,
  roof: unlessInvalid((p) => p.fraction_of_roof),
  bound: unlessInvalid((p) => p.bound),
  energy: unlessInvalid((p) => p.joules_per_token),
};

// First down or up, then the other way, then as measured.
function sortBy(button) {
  const head = button.closest("th");
  const key = KEYS[button.dataset.sort];
  const sample = key(points.values().next().value.point, 0);
  const first = typeof sample === "string" || ["work", "run"].includes(button.dataset.sort) ? "ascending" : "descending";
  const second = first === "ascending" ? "descending" : "ascending";
  const was = head.getAttribute("aria-sort");
  const order = was === null ? first : was === first ? second : null;
  for (const other of tableOf.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  let rows = rowsInOrder;
  if (order) {
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const keyed = rowsInOrder.map((row) => {
      const { run, point } = points.get(row.dataset.points);
      return { row, value: key(point, run) ?? null };
    });
    // Rows without a value come last in either order.
    keyed.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return sign * (a.value < b.value ? -1 : a.value > b.value ? 1 : 0);
    });
    rows = keyed.map(({ row }) => row);
  }
  body.append(...rows);
}

function startTable() {
  for (const button of tableOf.tHead.querySelectorAll("button[data-sort]")) {
    button.addEventListener("click", () => sortBy(button));
  }
  for (const row of rowsInOrder) {
    const name = nameOf(points.get(row.dataset.points));
    row.cells[0].append(make("button", { type: "button", class: "pin", "aria-label": `Pin ${name}` }, "pin"));
  }
  body.addEventListener("click", (event) => {
    const button = event.target.closest(".pin");
    if (button) toggle(button.closest("tr").dataset.points);
  });
}


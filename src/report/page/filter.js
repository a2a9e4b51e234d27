// The filters: which points are seen, in figures and table alike.

const boxes = [...document.querySelectorAll("input[data-facet]")];
const FACETS = {
  run: (entry, value) => String(entry.run) === value,
  phase: (entry, value) => entry.point.phase === value,
  stage: (entry, value) => (entry.point.stage ?? "step") === value,
  types: (entry, value) => typesOf(entry.point) === value,
  batch: (entry, value) => {
    const [low, high] = value.split("-").map(Number);
    return low <= entry.point.batch && entry.point.batch <= high;
  },
  ranks: (entry, value) => String(entry.point.ranks) === value,
};

function applyFilters() {
  const facets = Object.entries(FACETS)
    .map(([key, fits]) => {
      const all = boxes.filter((box) => box.dataset.facet === key);
      return { fits, all, values: all.filter((box) => box.checked).map((box) => box.value) };
    })
    // Where all are ticked, or there is nothing to choose, all fit.
    .filter(({ all, values }) => values.length < all.length);
  const seen = new Set();
  for (const entry of points.values()) {
    if (facets.every(({ fits, values }) => values.some((value) => fits(entry, value)))) seen.add(entry.id);
  }
  for (const element of owned) {
    const out = !idsOf(element).some((id) => seen.has(id));
    if (element.tagName === "TR") element.hidden = out;
    else element.classList.toggle("is-out", out);
  }
  for (const element of document.querySelectorAll("[data-run]")) {
    const box = boxes.find((one) => one.dataset.facet === "run" && one.value === element.dataset.run);
    element.classList.toggle(element.closest("svg") ? "is-out" : "is-off", box ? !box.checked : false);
  }
  for (const figure of document.querySelectorAll("figure")) rove(figure);
  document.getElementById("count").textContent = `${seen.size} of ${points.size} points shown`;
}

function startFilters() {
  const form = document.querySelector(".filters");
  form.addEventListener("change", applyFilters);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("show-all").addEventListener("click", () => {
    for (const box of boxes) box.checked = true;
    applyFilters();
  });
  for (const button of form.querySelectorAll("[data-all]")) {
    button.addEventListener("click", () => {
      const own = boxes.filter((box) => box.dataset.facet === button.dataset.all);
      const on = !own.every((box) => box.checked);
      for (const box of own) box.checked = on;
      applyFilters();
    });
  }
  applyFilters();
}


// Pinned points beside each other. The first is what the others are divided by.

const pins = [];
const MOST_PINS = 6;
const pinned = document.getElementById("pins");

function toggle(id) {
  const at = pins.indexOf(id);
  if (at >= 0) pins.splice(at, 1);
  else {
    pins.push(id);
    // The oldest but the first gives way.
    if (pins.length > MOST_PINS) pins.splice(1, 1);
  }
  showPins(id);
}

function pinAll(ids) {
  pins.splice(0, pins.length, ...ids.slice(0, MOST_PINS));
  showPins(ids[0]);
}

function showPins(current) {
  for (const element of document.querySelectorAll(".point, .label[data-points], #points tbody tr")) {
    const on = idsOf(element).some((id) => pins.includes(id));
    element.classList.toggle("is-pinned", on);
    if (element.classList.contains("point")) element.setAttribute("aria-pressed", String(on));
    const button = element.querySelector(".pin");
    if (button) button.textContent = on ? "unpin" : "pin";
  }
  pinned.hidden = pins.length === 0;
  const entries = pins.map((id) => points.get(id));
  const [first, second] = entries;
  pinned.querySelector(".scroll").replaceChildren(...(first ? [comparison(entries)] : []));
  pinned.querySelectorAll(".verdict").forEach((element) => element.remove());
  if (entries.length === 2) pinned.append(...inWords(first, second));
  showDetails(points.get(current));
}

// Of two shares the difference is in points of percent.
function signed(fact, value) {
  const sign = value > 0 ? "+" : value < 0 ? "−" : "";
  const size = Math.abs(value);
  return sign + (fact.show === percent ? `${(size * 100).toFixed(1)} points` : fact.show(size));
}

function comparison(entries) {
  const pair = entries.length === 2;
  const heads = entries.flatMap((entry, i) => {
    const unpin = make("button", { type: "button", class: "small" }, "unpin");
    unpin.addEventListener("click", () => toggle(entry.id));
    const head = make("th", { scope: "col", class: "n" }, nameOf(entry), " ", unpin);
    const others = pair ? ["difference", "second ÷ first"] : ["÷ first"];
    return i === 0 ? [head] : [head, ...others.map((name) => make("th", { scope: "col", class: "n" }, name))];
  });
  const rows = FACTS.flatMap((fact) => {
    const values = entries.map(({ point }) => fact.of(point) ?? null);
    if (values.every((value) => value === null)) return [];
    const changed = values.some((value) => value !== values[0]) ? " changed" : "";
    const cells = values.flatMap((value, i) => {
      const cell = make("td", { class: `n${changed}` }, value === null ? "–" : fact.show(value));
      if (i === 0) return [cell];
      const both = !fact.words && value !== null && values[0] !== null;
      const ratio = both && values[0] !== 0 ? `${figures(value / values[0])}×` : "";
      const difference = both ? signed(fact, value - values[0]) : "";
      const more = (pair ? [difference, ratio] : [ratio]).map((text) => make("td", { class: "n ratio" }, text));
      return [cell, ...more];
    });
    return [make("tr", {}, make("th", { scope: "row" }, termLink(fact)), ...cells)];
  });
  const clear = make("button", { type: "button", class: "small" }, "unpin all");
  clear.addEventListener("click", () => {
    const last = pins[0];
    pins.length = 0;
    showPins(last);
  });
  return make(
    "table",
    {},
    make("caption", {}, pair ? "The second against the first " : "Each against the first ", clear),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "quantity"), ...heads)),
    make("tbody", {}, ...rows),
  );
}

// The difference of two points in words.
function inWords(first, second) {
  const [a, b] = [first.point, second.point];
  if (invalid(a) || invalid(b)) return [];
  const [was, is] = [a.seconds, b.seconds];
  const [ratio, more] = [is.median / was.median, is.median - was.median];
  const parts = [
    `${nameOf(second)} takes ${figures(ratio)} times as long as ${nameOf(first)}: ` +
      `${si(Math.abs(more), "s")} ${more < 0 ? "less" : "more"}.`,
  ];
  if (a.tokens_per_second && b.tokens_per_second) {
    const from = [a.all_reduce_from, b.all_reduce_from].filter((one, i, all) => one && all.indexOf(one) === i);
    const reduces = from.length ? `, ${from.join(" and ")} all-reduces counted in` : "";
    parts.push(`It makes ${figures(b.tokens_per_second / a.tokens_per_second)} times the tokens per second${reduces}.`);
  }
  if (was.count && is.count) {
    const overlap = was.low <= is.high && is.low <= was.high;
    parts.push(`The 95% intervals of the two times ${overlap ? "overlap" : "do not overlap"}.`);
  }
  if (first.run !== second.run) {
    parts.push("Whether a difference between two runs is one, llmroof compare says: it takes trials, not samples.");
  }
  return [make("p", { class: "verdict" }, parts.join(" "))];
}


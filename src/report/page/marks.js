// Pointing at marks and rows, with pointer and keyboard, and the panel that tells of them.

const panel = document.getElementById("panel");
const details = document.getElementById("details");
const idle = [...details.childNodes];
let hot = [];

function mark(ids) {
  const each = (list, on) => {
    for (const id of list) for (const element of elementsOf.get(id) ?? []) element.classList.toggle("is-hot", on);
  };
  each(hot, false);
  each(ids, true);
  hot = ids;
}

// Shows the points of an element, the first of them in the panel.
function show(ids) {
  if (ids.join() === hot.join()) return;
  mark(ids);
  showDetails(points.get(ids[0]));
}

function leave() {
  mark([]);
  details.replaceChildren(...idle);
  panel.classList.add("is-idle");
}

function showDetails(entry) {
  const { id, point } = entry;
  const list = make("dl", {});
  for (const fact of FACTS) {
    const value = fact.of(point);
    if (value !== null && value !== undefined) {
      list.append(make("dt", {}, termLink(fact)), make("dd", {}, fact.show(value)));
    }
  }
  const notes = point.notes.map((note) => make("li", {}, note));
  const pinned = pins.includes(id);
  const actions = make("div", { class: "actions" });
  const button = (text, act) => {
    const element = make("button", { type: "button" }, text);
    element.addEventListener("click", act);
    actions.append(element);
  };
  button(pinned ? "Unpin" : "Pin", () => toggle(id));
  const twins = several ? [...points.values()].filter((other) => sameWork(other.point, point)) : [];
  if (twins.length > 1) button("Pin in every run", () => pinAll(twins.map((other) => other.id)));
  const close = make("button", { type: "button", class: "close", "aria-label": "Close the details" }, "×");
  close.addEventListener("click", leave);
  details.replaceChildren(
    make("h3", {}, nameOf(entry)),
    close,
    ...(invalid(point) ? [make("p", { class: "notice" }, "Not to be believed: its figures are not shown.")] : []),
    list,
    ...(notes.length ? [make("ul", { class: "notes" }, ...notes)] : []),
    actions,
  );
  panel.classList.remove("is-idle");
}

// What can be pointed at, from whatever is under the pointer inside it.
const pointable = (target) => target.closest?.(".point, .label[data-points], #points tr[data-points]");

document.addEventListener("pointerover", (event) => {
  const element = pointable(event.target);
  if (element) show(idsOf(element));
});
document.addEventListener("focusin", (event) => {
  const element = pointable(event.target);
  if (element) show(idsOf(element));
});
document.addEventListener("click", (event) => {
  const element = pointable(event.target);
  if (element && !event.target.closest("a, button")) toggle(idsOf(element)[0]);
});

// Marks that can be reached: not those that a filter hides.
const marksIn = (figure) => [...figure.querySelectorAll(".point:not(.is-out)")];

// One mark of each figure is in the order of Tab, the arrow keys lead to the others.
function rove(figure, chosen) {
  for (const element of figure.querySelectorAll(".point")) element.setAttribute("tabindex", "-1");
  (chosen ?? marksIn(figure)[0])?.setAttribute("tabindex", "0");
}

// Left and right go across the figure, up and down along its height. Each is an order of all marks, so every mark is
// reached either way.
function neighbour(figure, from, key) {
  const across = key === "ArrowLeft" || key === "ArrowRight";
  const placed = marksIn(figure).map((element) => {
    const box = element.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, -(box.y + box.height / 2)];
    return { element, at: across ? [x, y] : [y, x] };
  });
  placed.sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1]);
  if (key === "Home") return placed[0]?.element;
  if (key === "End") return placed.at(-1)?.element;
  const step = key === "ArrowRight" || key === "ArrowUp" ? 1 : -1;
  return placed[placed.findIndex((one) => one.element === from) + step]?.element;
}

const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];

document.addEventListener("keydown", (event) => {
  const element = event.target.closest?.(".point");
  if (event.key === "Escape") {
    leave();
    // Focus stays where the reader was, at the figure.
    element?.closest(".scroll").focus();
    return;
  }
  if (!element || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    toggle(idsOf(element)[0]);
  } else if (MOVES.includes(event.key)) {
    event.preventDefault();
    const figure = element.closest("figure");
    const next = neighbour(figure, element, event.key);
    if (next) {
      rove(figure, next);
      next.focus();
    }
  }
});

function startMarks() {
  for (const figure of document.querySelectorAll("figure")) {
    // A picture becomes a group of buttons; the description of every number would be read at each of them.
    const svg = figure.querySelector("svg.llmroof");
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-labelledby", svg.getAttribute("aria-labelledby").split(" ")[0]);
    for (const element of figure.querySelectorAll(".point")) {
      const entry = points.get(idsOf(element)[0]);
      const run = several ? `${letter(entry.run)}: ` : "";
      const title = element.querySelector("title");
      element.setAttribute("role", "button");
      element.setAttribute("aria-pressed", "false");
      element.setAttribute("aria-label", run + (title?.textContent ?? nameOf(entry)));
      // The panel says more than the browser's own tip, and sooner.
      title?.remove();
    }
    rove(figure);
  }
  panel.classList.add("is-idle");
}


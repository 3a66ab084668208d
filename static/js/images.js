// The Repository Images list: filters that apply themselves, selected rows, and a drawer that may change rows.

const filters = document.getElementById("filters");
const search = document.getElementById("search");
const list = () => document.getElementById("images");

// A menu of boxes is applied when it closes, so that several may be chosen; a drop-down at once.
const changed = new WeakSet();

document.addEventListener("change", (event) => {
  const control = event.target.closest?.("[data-filter]");
  if (!control) return;
  if (control.matches("select")) {
    filters.requestSubmit();
    return;
  }
  const menu = control.closest(".menu");
  if ("single" in control.dataset && control.checked) {
    for (const other of menu.querySelectorAll(`input[name="${control.name}"]`)) other.checked = other === control;
  }
  changed.add(menu);
});
document.addEventListener(
  "toggle",
  (event) => {
    if (event.newState === "closed" && changed.delete(event.target)) filters.requestSubmit();
  },
  { capture: true },
);
filters?.addEventListener("submit", (event) => {
  const menu = event.submitter?.closest(".menu");
  if (!menu) return;
  changed.delete(menu);
  menu.hidePopover();
});

// A file comes by an ordinary request: htmx must not see this one.
document.addEventListener(
  "submit",
  (event) => {
    if (event.submitter && "native" in event.submitter.dataset) event.stopPropagation();
  },
  { capture: true },
);

// Selected rows: all of a page, ranges with Shift, and the same ones after a row was drawn anew.
let selected = new Set();
let last = null;
const boxes = () => [...list().querySelectorAll('tbody input[name="id"]')];

function tell() {
  if (!list()) return;
  const all = boxes();
  const count = all.filter((box) => box.checked).length;
  const head = list().querySelector("[data-select-all]");
  if (head) {
    head.checked = count > 0 && count === all.length;
    head.indeterminate = count > 0 && count < all.length;
  }
  for (const button of list().querySelectorAll("[data-batch]")) {
    button.disabled = count === 0;
    button.title = count === 0 ? "Select images first" : "";
  }
  list().querySelector("#selected-count").textContent = count ? `${count} selected` : "";
}

document.addEventListener("click", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement) || !list()?.contains(box)) return;
  if ("selectAll" in box.dataset) {
    for (const each of boxes()) each.checked = box.checked;
  } else if (box.name === "id") {
    if (event.shiftKey && last) {
      const all = boxes();
      const from = all.findIndex((each) => each.value === last);
      const to = all.indexOf(box);
      if (from >= 0) for (const each of all.slice(Math.min(from, to), Math.max(from, to) + 1)) each.checked = box.checked;
    }
    last = box.value;
  } else {
    return;
  }
  selected = new Set(boxes().filter((each) => each.checked).map((each) => each.value));
  tell();
});

document.addEventListener("htmx:oobAfterSwap", () => {
  for (const box of boxes()) box.checked = selected.has(box.value);
  tell();
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.elt?.id !== "images" && event.detail.target?.id !== "images") return;
  const now = list();
  selected = new Set();
  last = null;
  tell();
  document.getElementById("export").href = now.dataset.export;
  if (document.activeElement !== search) search.value = now.dataset.search;
});
tell();

// What was done in the drawer shows in the list once the drawer closes.
let acted = false;
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.requestConfig?.verb === "post" && event.target.closest("#drawer")) acted = true;
});
document.getElementById("drawer")?.addEventListener("close", () => {
  if (acted && list()) list().dispatchEvent(new Event("refresh"));
  acted = false;
});

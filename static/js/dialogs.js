// The drawer, the question before a consequential button, menus under their buttons, and requests that fail.

const modal = document.getElementById("modal");
const drawer = document.getElementById("drawer");
const drawerBody = document.getElementById("drawer-body");

// A button with data-confirm asks first; OK presses it again, and this time the click passes. A list that is
// drawn anew meanwhile has another button for the same: what was agreed to holds for that one.
const confirmed = new WeakSet();

function successor(button) {
  if (button.isConnected) return button;
  const same = (each) =>
    !each.disabled &&
    each.name === button.name &&
    each.value === button.value &&
    each.getAttribute("formaction") === button.getAttribute("formaction") &&
    each.dataset.confirm === button.dataset.confirm &&
    each.dataset.confirmTitle === button.dataset.confirmTitle;
  return [...document.querySelectorAll("button[data-confirm]")].find(same);
}

document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest("button[data-confirm]");
    if (!button || button.disabled || confirmed.delete(button)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    modal.querySelector("#modal-title").textContent = button.dataset.confirmTitle || button.textContent.trim();
    modal.querySelector("#modal-text").textContent = button.dataset.confirm;
    const ok = modal.querySelector("#modal-ok");
    ok.textContent = button.dataset.confirmOk || "OK";
    ok.classList.toggle("button--danger", "confirmDanger" in button.dataset);
    ok.classList.toggle("button--primary", !("confirmDanger" in button.dataset));
    modal.returnValue = "cancel";
    modal.addEventListener(
      "close",
      () => {
        if (modal.returnValue !== "ok") return;
        const now = successor(button);
        if (!now) {
          toast("warn", "This has changed meanwhile, so nothing was done. Look at it again.");
          return;
        }
        confirmed.add(now);
        now.click();
      },
      { once: true },
    );
    modal.showModal();
    ok.focus();
  },
  { capture: true },
);

// Whatever is swapped into the drawer opens it.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target !== drawerBody) return;
  if (!drawer.open) drawer.showModal();
  drawerBody.scrollTop = 0;
  const heading = drawerBody.querySelector("h2[id]");
  if (heading) drawer.setAttribute("aria-labelledby", heading.id);
});
drawer?.addEventListener("close", () => drawerBody.replaceChildren());
for (const dialog of [drawer, modal]) {
  // A click on the backdrop has the dialog itself as its target.
  dialog?.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close("cancel");
  });
}

// A popover opens below the button that called it; the style sheet cannot know where that is.
document.addEventListener(
  "toggle",
  (event) => {
    const menu = event.target;
    if (!(menu instanceof HTMLElement) || !menu.matches(".menu[popover]") || event.newState !== "open") return;
    const button = document.querySelector(`[popovertarget="${CSS.escape(menu.id)}"]`);
    if (!button) return;
    const place = button.getBoundingClientRect();
    const left = Math.max(8, Math.min(place.left, window.innerWidth - menu.offsetWidth - 8));
    const below = place.bottom + 4;
    const top = below + menu.offsetHeight > window.innerHeight ? Math.max(8, place.top - menu.offsetHeight - 4) : below;
    menu.style.inset = `${top}px auto auto ${left}px`;
  },
  { capture: true },
);

function toast(kind, text) {
  const note = document.createElement("div");
  note.className = `notice notice--${kind}`;
  const body = document.createElement("div");
  body.className = "notice__body";
  body.textContent = text;
  note.append(body);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 8000);
}

document.addEventListener("htmx:sendError", () => toast("fail", "The console does not answer. Check the connection and try again."));
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  if (status === 403) toast("fail", "You may not do this. Ask an administrator for the operator role.");
  else if (status === 404) toast("warn", "This no longer exists. Reload the page.");
  else toast("fail", `The console answered with an error (${status}). Try again; if it stays, look at the server's log.`);
});

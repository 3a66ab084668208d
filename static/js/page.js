// What every page has: the theme, messages that can be dismissed, copying a value.

const root = document.documentElement;

document.addEventListener("click", async (event) => {
  if (event.target.closest("[data-theme-toggle]")) {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `tcss_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
    return;
  }
  const dismiss = event.target.closest("[data-dismiss]");
  if (dismiss) {
    dismiss.closest(".notice").remove();
    return;
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy);
    const label = copy.getAttribute("aria-label");
    copy.setAttribute("aria-label", "Copied");
    copy.dataset.copied = "";
    setTimeout(() => {
      copy.setAttribute("aria-label", label);
      delete copy.dataset.copied;
    }, 1500);
  }
});

/* Blocks and tables wider than the page are scrolled by keyboard too: those that overflow can be focused. */
const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
addEventListener("load", () => {
  document.querySelectorAll("pre, .table-wrapper, .math, .beside-text, article").forEach((element) => watch.observe(element));
});

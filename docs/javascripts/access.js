// The theme adds these elements without a name, or out of reach of the keyboard.
let blocks = 0;

function complete(root) {
  for (const dialog of root.querySelectorAll(".md-search:not([aria-label])")) dialog.setAttribute("aria-label", "Search");
  for (const nav of root.querySelectorAll(".md-code__nav:not([aria-label])")) nav.setAttribute("aria-label", `Code block ${++blocks}`);
  for (const table of root.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) table.tabIndex = 0;
  for (const code of root.querySelectorAll(".highlight pre > code:not([tabindex])")) code.tabIndex = 0;
}

complete(document);
new MutationObserver(() => complete(document)).observe(document.body, { childList: true, subtree: true });

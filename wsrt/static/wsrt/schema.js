/** Filters the events of the schema while the user types. Without scripts, submitting the form filters them. */

const field = document.getElementById("id_q");
const noMatch = document.getElementById("wsrt-no-match");

function searchableText(event) {
  const parts = event.querySelectorAll("h4, .wsrt-says, .wsrt-fields tbody th");
  return [event.dataset.consumer, ...[...parts].map((part) => part.textContent)].join(" ").toLowerCase();
}

function filter() {
  const text = field.value.toLowerCase();
  let matches = 0;
  for (const consumer of document.querySelectorAll(".wsrt-consumer:has(article)")) {
    let shown = 0;
    for (const event of consumer.querySelectorAll("article")) {
      event.hidden = !searchableText(event).includes(text);
      consumer.querySelector(`[data-of="${CSS.escape(event.id)}"]`).hidden = event.hidden;
      if (!event.hidden) shown += 1;
    }
    consumer.hidden = text !== "" && shown === 0;
    matches += shown;
  }
  noMatch.hidden = text === "" || matches > 0;
}

if (field) {
  field.addEventListener("input", filter);
  field.form.addEventListener("submit", (event) => event.preventDefault());
  // The browser may have restored the text of the field.
  filter();
}

// Show an event that a link refers to, even if the filter hides it.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target?.hidden) return;
  field.value = "";
  filter();
  target.scrollIntoView();
}

addEventListener("hashchange", reveal);
if (field) reveal();

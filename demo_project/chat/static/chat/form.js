/** Show beside the fields of a form what is wrong with them, as the error of a request tells it. */
export function showProblems(form, error) {
  clearProblems(form);
  const general = [];
  for (const { loc, msg } of error.errors ?? []) {
    const field = form.elements.namedItem(String(loc[0]));
    if (field) say(field, msg);
    else general.push(msg);
  }
  const wrong = form.querySelector("[aria-invalid]");
  if (!wrong && !general.length) general.push(error.message);
  form.querySelector("[role=alert]").textContent = general.join(" ");
  wrong?.focus();
}

export function clearProblems(form) {
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const problem of form.querySelectorAll(".problem")) problem.textContent = "";
}

function say(field, text) {
  field.setAttribute("aria-invalid", "true");
  // It is described by the place for its problem, from the start.
  const place = document.getElementById(field.getAttribute("aria-describedby"));
  place.textContent = [place.textContent, text].filter(Boolean).join(" ");
}

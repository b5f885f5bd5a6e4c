import { explain, explainField } from "./words.js";

/** Show the errors of a refused request next to the fields of the form. */
export function showProblems(form, error) {
  clearProblems(form);
  const rules = Object.fromEntries([...form.elements].map((field) => [field.name, field.dataset.rule]));
  const general = [];
  for (const problem of error.errors ?? []) {
    const field = form.elements.namedItem(String(problem.loc[0]));
    if (field) showProblem(field, explainField(problem, rules));
    else general.push(problem.msg);
  }
  const wrong = form.querySelector("[aria-invalid]");
  if (!wrong && !general.length) general.push(explain(error));
  form.querySelector("[role=alert]").textContent = general.join(" ");
  wrong?.focus();
}

export function clearProblems(form) {
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const problem of form.querySelectorAll(".problem")) problem.textContent = "";
}

function showProblem(field, text) {
  field.setAttribute("aria-invalid", "true");
  // aria-describedby always names the element that shows the field's problem.
  const place = document.getElementById(field.getAttribute("aria-describedby"));
  place.textContent = [place.textContent, text].filter(Boolean).join(" ");
}

/** Create an element. Strings are inserted as text, never as HTML. */
export function make(tag, className = "", ...content) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...content);
  return element;
}

/** Create a round avatar with the first letter of a name, in the colour of that name. */
export function avatar(name) {
  const mark = make("span", "avatar", [...name][0] ?? "?");
  mark.style.setProperty("--hue", hue(name));
  mark.ariaHidden = "true";
  return mark;
}

/** Return the hue of a name, in degrees. The same name always has the same hue. */
export function hue(name) {
  let sum = 7;
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return String(sum);
}

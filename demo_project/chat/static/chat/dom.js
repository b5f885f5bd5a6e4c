/** Make an element: text is only ever written as text. */
export function make(tag, className = "", ...content) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...content);
  return element;
}

/** A round mark with the first letter of a name, in the colour of that name. */
export function avatar(name) {
  const mark = make("span", "avatar", [...name][0] ?? "?");
  mark.style.setProperty("--hue", hue(name));
  mark.ariaHidden = "true";
  return mark;
}

/** A colour for a name: the same name always gets the same hue, in degrees. */
export function hue(name) {
  let sum = 7;
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return String(sum);
}

/** Create an element. Strings are inserted as text, never as HTML. */
export function make(tag, className = "", ...content) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...content);
  return element;
}

/** Create a round avatar with the first letter of a name, in the colour of that user. */
export function avatar(name, userId) {
  const mark = make("span", "avatar", [...name][0] ?? "?");
  mark.ariaHidden = "true";
  paint(mark, userId);
  return mark;
}

/** Give an avatar the colour of a user. Users who signed up one after another have very different colours. */
export function paint(mark, userId) {
  mark.style.setProperty("--hue", String((Number(userId) * 137.5) % 360));
}

/** How far from the end of a list its reader may be and still follow it, in pixels. */
const NEAR_END_PX = 80;

/** Keep a list at its end unless its reader scrolls up. Return a function to call when the list has grown. */
export function follow(list) {
  let isAtEnd = true;
  const scroll = () => {
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  };
  list.addEventListener("scroll", () => {
    isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
  });
  // What appears above or below the list must not cover its last item.
  new ResizeObserver(scroll).observe(list);
  return scroll;
}

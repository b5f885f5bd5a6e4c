const TYPING_MS = 3_000;

/** The users who are typing. Each is shown for a few seconds, or until their message arrives. */
export class Typists {
  #line;
  #timers = new Map();

  constructor(line) {
    this.#line = line;
  }

  add(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.set(name, setTimeout(() => this.remove(name), TYPING_MS));
    this.#render();
  }

  remove(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
    this.#render();
  }

  #render() {
    const names = [...this.#timers.keys()];
    this.#line.textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
  }
}

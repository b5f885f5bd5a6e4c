const TYPING_MS = 3_000;

/** The users who are typing. Each is shown for a few seconds, or until their message arrives. */
export class Typists {
  #line;
  #names = new Map();
  #timers = new Map();

  constructor(line) {
    this.#line = line;
  }

  add(userId, name) {
    clearTimeout(this.#timers.get(userId));
    this.#timers.set(userId, setTimeout(() => this.remove(userId), TYPING_MS));
    this.#names.set(userId, name);
    this.#render();
  }

  remove(userId) {
    clearTimeout(this.#timers.get(userId));
    this.#names.delete(userId);
    this.#render();
  }

  #render() {
    const names = [...this.#names.values()];
    this.#line.textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
  }
}

import { avatar, make } from "./dom.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** The messages, by id. Each is shown once and in order, whether it was pushed or fetched. */
export class Messages {
  #list;
  #self;
  #shown = new Map();

  constructor(list, self) {
    this.#list = list;
    this.#self = self;
  }

  /** The id of the latest message, or 0. */
  get last() {
    return Math.max(0, ...this.#shown.keys());
  }

  show(message) {
    if (this.#shown.has(message.id)) return;
    const list = this.#list;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    const kind = message.is_announcement ? "announcement" : message.author === this.#self ? "message mine" : "message";
    const item = make("li", kind, avatar(message.author), body(message));
    const later = [...this.#shown.keys()].filter((id) => id > message.id);
    list.insertBefore(item, later.length ? this.#shown.get(Math.min(...later)) : null);
    this.#shown.set(message.id, item);
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }
}

function body({ author, is_announcement, sent_at, text }) {
  const time = make("time", "", clock.format(new Date(sent_at)));
  time.dateTime = sent_at;
  const head = make("p", "head", make("b", "", author), is_announcement ? " announces " : " ", time);
  return make("div", "", head, make("p", "text", text));
}

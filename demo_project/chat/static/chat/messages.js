import { avatar, follow, make } from "./dom.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** The messages, by id. Each is shown once and in order, whether it was pushed or fetched. */
export class Messages {
  #list;
  #self;
  #shown = new Map();
  #scroll;

  /**
   * @param list The element that shows them.
   * @param self The id of the user who looks at them.
   */
  constructor(list, self) {
    this.#list = list;
    this.#self = self;
    this.#scroll = follow(list);
  }

  /** The id of the latest message, or 0. */
  get last() {
    return Math.max(0, ...this.#shown.keys());
  }

  show(message) {
    if (this.#shown.has(message.id)) return;
    const kind = message.is_announcement ? "announcement" : message.user_id === this.#self ? "message mine" : "message";
    const item = make("li", kind, avatar(message.author, message.user_id), body(message));
    const later = [...this.#shown.keys()].filter((id) => id > message.id);
    this.#list.insertBefore(item, later.length ? this.#shown.get(Math.min(...later)) : null);
    this.#shown.set(message.id, item);
    this.#scroll();
  }
}

function body({ author, is_announcement, sent_at, text }) {
  const time = make("time", "", clock.format(new Date(sent_at)));
  time.dateTime = sent_at;
  const head = make("p", "head", make("b", "", author), is_announcement ? " announces " : " ", time);
  return make("div", "", head, make("p", "text", text));
}

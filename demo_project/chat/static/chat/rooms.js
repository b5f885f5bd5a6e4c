import { make } from "./dom.js";
import { clearProblems, showProblems } from "./form.js";

/** Keep the list of rooms up to date, and handle the form that creates one. */
export function watchRooms(client) {
  const dialog = document.getElementById("open-room");
  const form = dialog.querySelector("form");

  client.on("room.opened", (room) => addRoom(room));

  document.getElementById("open-room-button").addEventListener("click", () => {
    form.reset();
    clearProblems(form);
    dialog.showModal();
  });
  form.querySelector("[type=button]").addEventListener("click", () => dialog.close());

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { members_only, ...texts } = Object.fromEntries(new FormData(form));
    try {
      const room = await client.request("room.open", { ...texts, members_only: members_only === "on" });
      location.href = `../${room.slug}/`;
    } catch (error) {
      showProblems(form, error);
    }
  });
}

function addRoom({ name, slug, topic, members_only }) {
  const list = document.getElementById("rooms");
  if (list.querySelector(`[href$="/${CSS.escape(slug)}/"]`)) return;
  const title = make("b", "", name, ...(members_only ? [make("span", "lock", " · members")] : []));
  const link = make("a", "", title, " ", make("small", "", topic));
  link.href = `../${slug}/`;
  list.append(make("li", "", link));
}

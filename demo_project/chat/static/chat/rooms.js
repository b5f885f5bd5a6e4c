import { make } from "./dom.js";
import { clearProblems, showProblems } from "./form.js";

/** Keep the list of rooms up to date, mark those in which something was said, and handle the form that creates one. */
export function watchRooms(client) {
  const dialog = document.getElementById("open-room");
  const form = dialog.querySelector("form");

  for (const link of document.querySelectorAll("#rooms a")) watchActivity(client, link);
  client.on("room.opened", (room) => addRoom(client, room));
  client.on("room.active", ({ slug }) => markNew(linkTo(slug)));

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

function linkTo(slug) {
  return document.querySelector(`#rooms [href$="/${CSS.escape(slug)}/"]`);
}

/** Subscribe to the activity of a room that this page doesn't show. The server refuses a room that the user may not read. */
function watchActivity(client, link) {
  if (link.ariaCurrent === "page") return;
  const slug = link.pathname.split("/").at(-2);
  client.subscribe(`activity.${slug}`).ready.catch(() => {});
}

function markNew(link) {
  if (!link || link.querySelector(".new")) return;
  const mark = make("span", "new", make("span", "hidden", " · new"));
  mark.title = "Something was said here";
  link.querySelector("b").append(mark);
}

function addRoom(client, { name, slug, topic, members_only }) {
  if (linkTo(slug)) return;
  const title = make("b", "", name, ...(members_only ? [make("span", "lock", " · members")] : []));
  const link = make("a", "", title, " ", make("small", "", topic));
  link.href = `../${slug}/`;
  document.getElementById("rooms").append(make("li", "", link));
  watchActivity(client, link);
}

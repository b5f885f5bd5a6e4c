import { found } from "./app";

test("the client runs", () => {
  expect(found).toBe("/ws/chat/a/ closed RequestError function");
});

// The client of the original application: sockjs-client 1.6.1 and stompjs 2.3.3.

import { createRequire } from "node:module";
import { Inbox } from "./inbox.mjs";
import { within } from "./server.mjs";

const require = createRequire(import.meta.url);
const SockJS = require("sockjs-client");
const Stomp = require("stompjs");

// Connects as the page did, and subscribes to both destinations of the page. `receipts` adds what
// the page did not have: it waits until the server has confirmed the subscriptions.
export async function legacy(server, user, { receipts = true } = {}) {
  const query = user === undefined ? "" : `?userId=${user}`;
  const name = user === undefined ? "anonymous" : `user ${user}`;
  const socket = new SockJS(`${server.url}/portfolio${query}`);
  const client = Stomp.over(socket);
  client.debug = null;
  const mine = new Inbox(`${name}, /user/queue/sub`);
  const all = new Inbox(`${name}, /topic/all`);
  const closed = new Promise((resolve) => {
    socket.addEventListener("close", (event) => resolve(event));
  });
  await within(5_000, `CONNECTED for ${name}`, new Promise((resolve, reject) => {
    client.connect({}, resolve, (error) => reject(new Error(String(error?.body ?? error))));
  }));
  const parse = (frame) => JSON.parse(frame.body);
  const done = new Promise((resolve) => {
    let wanted = 2;
    client.onreceipt = () => --wanted || resolve();
  });
  const ask = (receipt) => (receipts ? { receipt } : {});
  client.subscribe("/user/queue/sub", (frame) => mine.put(parse(frame)), ask("r-1"));
  client.subscribe("/topic/all", (frame) => all.put(parse(frame)), ask("r-2"));
  if (receipts) await within(5_000, `receipts for ${name}`, done);
  const trade = () => client.send("/ws/trade", {}, JSON.stringify({ shares: 100 }));
  const close = () => within(5_000, "close", new Promise((resolve) => client.disconnect(resolve)));
  return { client, socket, mine, all, trade, close, closed };
}

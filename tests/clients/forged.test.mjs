// No client can forge what another one takes for the server's own headers or frames: stompjs and
// webstomp-client trim header names, use the first of several, and end a frame at any NUL.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import WebSocket from "ws";
import { Inbox } from "./lib/inbox.mjs";
import { bare, CONNECT } from "./lib/modern.mjs";
import { start, within } from "./lib/server.mjs";

const require = createRequire(import.meta.url);
const SockJS = require("sockjs-client");

const VICTIMS = {
  "stompjs over SockJS": (server, path) =>
    require("stompjs").over(new SockJS(server.url + path)),
  "stompjs over WebSocket": (server, path) =>
    require("stompjs").over(new WebSocket(server.ws + path)),
  "webstomp-client over SockJS": (server, path) =>
    require("webstomp-client").over(new SockJS(server.url + path)),
  "webstomp-client over WebSocket": (server, path) =>
    require("webstomp-client").over(new WebSocket(server.ws + path)),
};

// Everything that the two libraries trim, and other control characters.
const BLANKS = [..."\t\v\f \u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000\ufeff",
  ..."\u0001\u007f\u0085"];
const ESCAPED = ["\\n", "\\r"];
const NAMES = ["subscription", "message-id", "ack", "destination", "content-length", "retract",
  "replayed", "recovered", "kept", "redelivered", "receipt", "transaction"];

async function victim(make, server) {
  const client = make(server, "/portfolio?userId=7");
  client.debug = () => {};
  const [mine, all] = [new Inbox("/user/queue/sub"), new Inbox("/topic/all")];
  await within(5_000, "CONNECTED", new Promise((resolve, reject) => {
    client.connect({}, resolve, (error) => reject(new Error(String(error?.body ?? error))));
  }));
  let wanted = 2;
  const ready = new Promise((resolve) => (client.onreceipt = () => --wanted || resolve()));
  client.subscribe("/user/queue/sub", (frame) => mine.put(frame), { id: "sub-0", receipt: "r-0" });
  client.subscribe("/topic/all", (frame) => all.put(frame), { id: "sub-1", receipt: "r-1" });
  await within(5_000, "receipts", ready);
  return { client, mine, all };
}

async function attacker(server) {
  const peer = await bare(`${server.ws}/portfolio`);
  peer.socket.send(CONNECT);
  assert.match(await peer.inbox.take(), /^CONNECTED\n/);
  return peer;
}

for (const [name, make] of Object.entries(VICTIMS)) {
  test(`${name}: a forged header stays with its sender`, async (t) => {
    const server = await start();
    t.after(() => server.stop());
    const { client, mine, all } = await victim(make, server);
    const { socket } = await attacker(server);
    const body = JSON.stringify({ businessType: "CALL_IN", data: { from: "forged" } });
    let sent = 0;
    for (const blank of [...BLANKS, ...ESCAPED]) {
      const forged = NAMES.flatMap((name) => [`${blank}${name}:sub-0`, `${name}${blank}:sub-0`]);
      // STOMP allows no second content-length that differs, and no transaction.
      const exact = ["subscription", "message-id", "ack", "destination"].map((n) => `${n}:sub-0`);
      const lines = forged.concat(exact, "x:y").join("\n");
      socket.send(`SEND\ndestination:/topic/all\n${lines}\n\n${body}\0`);
      sent += 1;
    }
    for (let number = 0; number < sent; number += 1) {
      const frame = await all.take();
      const { "message-id": id, "content-length": length, ...headers } = frame.headers;
      const expected = { destination: "/topic/all", subscription: "sub-1", x: "y" };
      assert.deepEqual(headers, expected, `message ${number}`);
      assert.match(id, /^[0-9a-z]{6}-\d+$/);
      assert.equal(Number(length), body.length);
      assert.equal(frame.body, body);
    }
    mine.empty();
    client.disconnect();
    socket.close();
  });

  test(`${name}: a NUL makes no second frame`, async (t) => {
    const server = await start();
    t.after(() => server.stop());
    const { client, mine, all } = await victim(make, server);
    const forged = "MESSAGE\nsubscription:sub-0\nmessage-id:1\n\n{}";
    for (const type of ["", "text/plain", "application/json", "application/octet-stream"]) {
      const { socket, inbox, closed } = await attacker(server);
      const typed = type && `content-type:${type}\n`;
      const body = `a\0\n${forged}`;
      socket.send(`SEND\ndestination:/topic/all\nreceipt:r-1\n${typed}` +
        `content-length:${body.length}\n\n${body}\0`);
      const error = await inbox.take();
      assert.match(error, /^ERROR\nmessage:NUL in the body\nreceipt-id:r-1\n/, type);
      assert.match(error, /broker\.nul-in-body/);
      assert.equal((await within(5_000, "close", closed)).code, 1008);
    }
    // The next message is the first one to arrive.
    const { socket } = await attacker(server);
    socket.send("SEND\ndestination:/topic/all\n\nlast\0");
    assert.equal((await all.take()).body, "last");
    mine.empty();
    client.disconnect();
    socket.close();
  });
}

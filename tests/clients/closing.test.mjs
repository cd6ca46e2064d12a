// How the server ends connections: on SIGTERM, and for clients that do not read.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { application, start, within } from "./lib/server.mjs";
import { CONNECT, bare } from "./lib/modern.mjs";
import { legacy } from "./lib/legacy.mjs";

test("SIGTERM: every session is closed with 1001, and the exit code is 0", async () => {
  const server = await start(application());
  const raws = [];
  for (const path of ["/portfolio", "/portfolio/websocket?userId=7", "/chat"]) {
    raws.push(await bare(server.ws + path));
  }
  raws[0].socket.send(CONNECT);
  assert.match(await raws[0].inbox.take(), /^CONNECTED\n/);
  const page = await legacy(server, "7");
  const stopped = server.stop();
  for (const raw of raws) {
    assert.equal((await within(10_000, "close", raw.closed)).code, 1001, raw.socket.url);
  }
  assert.equal((await within(10_000, "close of SockJS", page.closed)).code, 1001);
  assert.equal(await stopped, 0);
});

// A client frame with a mask of zeros, which leaves the payload as it is.
function masked(text) {
  const payload = Buffer.from(text);
  assert.ok(payload.length < 65_536);
  const head = payload.length < 126
    ? [0x81, 0x80 | payload.length]
    : [0x81, 0xfe, payload.length >> 8, payload.length & 255];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

// Reads the frames of a server: opcode and payload of each, in order.
function frames(buffer) {
  const found = [];
  for (let at = 0; at + 2 <= buffer.length;) {
    let length = buffer[at + 1] & 127;
    let head = 2;
    if (length === 126) [length, head] = [buffer.readUInt16BE(at + 2), 4];
    else if (length === 127) [length, head] = [Number(buffer.readBigUInt64BE(at + 2)), 10];
    if (at + head + length > buffer.length) break;
    const payload = buffer.subarray(at + head, at + head + length);
    found.push({ opcode: buffer[at] & 15, payload });
    at += head + length;
  }
  return found;
}

// A WebSocket over a bare socket, whose reading can be stopped.
async function stubborn(server, path) {
  const { port, host } = new URL(server.url);
  const socket = connect(Number(port), "127.0.0.1");
  let received = Buffer.alloc(0);
  const chunks = [];
  let wake = () => {};
  socket.on("data", (data) => {
    chunks.push(data);
    wake();
  });
  socket.on("error", () => {});
  const all = () => {
    received = Buffer.concat([received, ...chunks.splice(0)]);
    return received;
  };
  const until = (what, test) => within(5_000, what, (async () => {
    while (!test(all())) await new Promise((resolve) => (wake = resolve));
  })());
  const ended = new Promise((resolve) => socket.on("close", resolve));
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\n`
    + "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
  await until("101", (data) => data.includes("\r\n\r\n"));
  assert.match(received.toString("latin1"), /^HTTP\/1\.1 101 /);
  received = received.subarray(received.indexOf("\r\n\r\n") + 4);
  return { socket, all, until, ended };
}

test("a client that does not read sees a close with 4500, and nobody else notices", async (t) => {
  const server = await start(application());
  t.after(() => server.stop());
  const slow = await stubborn(server, "/portfolio");
  slow.socket.write(masked(CONNECT));
  slow.socket.write(masked("SUBSCRIBE\nid:1\ndestination:/topic/bulk\nreceipt:s\n\n\0"));
  await slow.until("receipt", (data) => data.includes("receipt-id:s"));
  slow.socket.pause();
  const fast = await bare(`${server.ws}/portfolio`);
  fast.socket.send(CONNECT);
  assert.match(await fast.inbox.take(), /^CONNECTED\n/);
  fast.socket.send("SUBSCRIBE\nid:1\ndestination:/topic/bulk\nreceipt:f\n\n\0");
  assert.match(await fast.inbox.take(), /^RECEIPT\n/);

  // Far more than fits into the kernel's buffers and `send-buffer`.
  const COUNT = 240;
  const text = "x".repeat(60_000);
  for (let n = 0; n < COUNT; n++) {
    const body = { businessType: "BULK", data: { n, text } };
    assert.equal((await server.toAll(body, "/topic/bulk")).status, 200);
    const message = await fast.inbox.take();
    assert.equal(JSON.parse(message.slice(message.indexOf("\n\n") + 2, -1)).data.n, n);
  }

  slow.socket.resume();
  await slow.until("Close frame", (data) => frames(data).at(-1)?.opcode === 8);
  const seen = frames(slow.all());
  assert.equal(seen.at(-1).payload.readUInt16BE(0), 4500);
  slow.socket.end(Buffer.from([0x88, 0x82, 0, 0, 0, 0, ...seen.at(-1).payload.subarray(0, 2)]));
  await within(10_000, "end of the slow connection", slow.ended);
  // The messages before the close are whole and in order, but not all that were sent.
  const numbers = seen.filter(({ payload }) => payload.includes("BULK")).map(({ payload }) => {
    const body = payload.toString();
    return JSON.parse(body.slice(body.indexOf("\n\n") + 2, -1)).data.n;
  });
  assert.deepEqual(numbers, numbers.map((_, n) => n));
  assert.ok(numbers.length < COUNT, `${numbers.length} messages arrived`);
  fast.socket.close();
});

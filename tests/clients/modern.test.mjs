// @stomp/stompjs 7 over a plain WebSocket, and the answers to bad frames.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { application, start, within } from "./lib/server.mjs";
import { CONNECT, bare, modern, refused } from "./lib/modern.mjs";

let server;
before(async () => (server = await start(application({ broker: 'heartbeat = ["1s", "1s"]' }))));
after(() => server?.stop());

for (const path of ["/portfolio/websocket", "/portfolio"]) {
  test(`the modern client on ${path}`, async () => {
    const me = await modern(server, `${path}?userId=7`);
    assert.equal(me.socket.protocol, "v12.stomp");
    const { version, session, "heart-beat": beat, "user-name": user } = me.connected.headers;
    assert.deepEqual({ version, beat, user }, { version: "1.2", beat: "1000,1000", user: "7" });
    assert.ok(session);
    assert.ok(me.connected.headers.server);

    const mine = await me.subscribe("/user/queue/sub");
    const topic = await me.subscribe("/topic/modern");
    await me.receipt((headers) => me.client.publish({
      destination: "/ws/trade", body: "{}", headers,
    }));
    const reply = await mine.take();
    assert.deepEqual(JSON.parse(reply.body), { code: 0, mess: "服务端返回消息！" });
    assert.equal(reply.headers.destination, "/user/queue/sub");

    // The sender's headers are in the message, except `receipt`.
    const headers = { "content-type": "text/plain", note: "a:b\\x\nd" };
    await me.receipt((more) => me.client.publish({
      destination: "/topic/modern", body: "ünï ☎", headers: { ...headers, ...more },
    }));
    const message = await topic.take();
    assert.equal(message.body, "ünï ☎");
    assert.equal(message.headers.note, headers.note);
    assert.equal(message.headers["content-type"], "text/plain");
    assert.equal(message.headers.receipt, undefined);
    assert.ok(message.headers["message-id"]);

    // Receipts and messages arrive in the order of the frames.
    const order = [];
    const publish = (n) => me.receipt((more) => me.client.publish({
      destination: "/topic/modern", body: String(n), headers: more,
    })).then(() => order.push(n));
    await Promise.all(Array.from({ length: 50 }, (_, n) => publish(n)));
    assert.deepEqual(order, Array.from({ length: 50 }, (_, n) => n));
    for (const n of order) assert.equal((await topic.take()).body, String(n));

    // DISCONNECT: its receipt, then close 1000.
    const gone = new Promise((resolve) => (me.client.onDisconnect = resolve));
    await within(5_000, "deactivation", me.client.deactivate());
    await within(5_000, "receipt of DISCONNECT", gone);
    assert.equal((await within(5_000, "close", me.closed)).code, 1000);
    me.errors.empty();
  });
}

test("versions and protocols", async () => {
  for (const [offer, version] of [["1.0,1.1,1.2", "1.2"], ["1.1, 1.0", "1.1"], ["1.0", "1.0"]]) {
    const raw = await bare(`${server.ws}/portfolio`, { protocols: ["v10.stomp"] });
    raw.socket.send(`CONNECT\naccept-version:${offer}\nhost:x\n\n\0`);
    assert.match(await raw.inbox.take(), new RegExp(`^CONNECTED\n(.*\n)*version:${version}\n`));
    raw.socket.close();
    await within(5_000, "close", raw.closed);
  }
});

test("heart-beats of the server", async () => {
  const raw = await bare(`${server.ws}/portfolio`);
  raw.socket.send("CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,1000\n\n\0");
  assert.match(await raw.inbox.take(), /^CONNECTED\n/);
  for (let beat = 0; beat < 2; beat++) await raw.inbox.expect("\n");
  raw.socket.close();
});

test("a silent client that answers pings lives, one that does not is closed", async () => {
  const hello = "CONNECT\naccept-version:1.2\nhost:x\nheart-beat:1000,0\n\n\0";
  const lives = await bare(`${server.ws}/portfolio`);
  const dies = await bare(`${server.ws}/portfolio`, { autoPong: false });
  for (const raw of [lives, dies]) {
    raw.socket.send(hello);
    assert.match(await raw.inbox.take(), /^CONNECTED\n/);
  }
  await dies.pings.expect("ping", 10_000);
  await within(10_000, "close of the client that is silent", dies.closed);
  for (let count = 0; count < 2; count++) await lives.pings.expect("ping", 10_000);
  lives.socket.send("SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:alive\n\n\0");
  assert.match(await lives.inbox.take(), /^RECEIPT\nreceipt-id:alive\n/);
  lives.socket.close();
});

test("one frame in several messages, and several frames in one message", async () => {
  const raw = await bare(`${server.ws}/portfolio`);
  for (const byte of CONNECT) raw.socket.send(byte);
  assert.match(await raw.inbox.take(), /^CONNECTED\n/);
  const subscribe = (n) => `SUBSCRIBE\nid:${n}\ndestination:/topic/p\nreceipt:${n}\n\n\0`;
  const frames = [1, 2, 3].map(subscribe);
  raw.socket.send(frames.join("\n\r\n"));
  for (const n of [1, 2, 3]) await raw.inbox.expect(`RECEIPT\nreceipt-id:${n}\n\n\0`);
  raw.socket.close();
});

const receipt = "receipt:77\n";
const BAD = [
  ["unknown command", "FOO\n\n\0", 1002],
  ["a frame before CONNECT", "SEND\ndestination:/topic/a\n\n\0", 1002, { connect: false }],
  ["no common version", "CONNECT\naccept-version:2.7\nhost:x\n\n\0", 1002, { connect: false }],
  ["CONNECT twice", CONNECT, 1002],
  ["SEND without a destination", `SEND\n${receipt}\n\0`, 1002],
  ["SUBSCRIBE without an id", `SUBSCRIBE\n${receipt}destination:/topic/a\n\n\0`, 1002],
  ["SEND to no known prefix", `SEND\n${receipt}destination:/nowhere\n\n\0`, 1002],
  ["SUBSCRIBE to no known prefix", `SUBSCRIBE\n${receipt}id:1\ndestination:/nowhere\n\n\0`, 1002],
  ["SEND to a queue", `SEND\n${receipt}destination:/queue/a\n\n\0`, 1008],
  ["SEND to somebody else", `SEND\n${receipt}destination:/user/8/queue/sub\n\n\0`, 1008],
  ["nonsense content-length", "SEND\ndestination:/topic/a\ncontent-length:many\n\nx\0", 1002],
  ["a header line without a colon", "SEND\ndestination\n\n\0", 1002],
  ["too long", `SEND\ndestination:/topic/a\n\n${"x".repeat(66_000)}\0`, 1009],
];
for (const [name, text, code, { connect = true } = {}] of BAD) {
  test(`bad frame: ${name}`, async () => {
    const raw = await bare(`${server.ws}/portfolio?userId=7`);
    if (connect) {
      raw.socket.send(CONNECT);
      assert.match(await raw.inbox.take(), /^CONNECTED\n/);
    }
    raw.socket.send(text);
    const frame = await raw.inbox.take();
    assert.match(frame, /^ERROR\n/);
    assert.match(frame, /\nmessage:[^\n]+\n/);
    if (text.includes(receipt)) assert.match(frame, /\nreceipt-id:77\n/);
    if (name === "no common version") assert.match(frame, /1\.2/);
    assert.equal((await within(5_000, "close", raw.closed)).code, code);
  });
}

test("errors below STOMP", async () => {
  const cases = [
    ["text that is not UTF-8", (s) => s.send(Buffer.from([0xc3, 0x28]), { binary: false }), 1007],
    ["a frame without a mask", (s) => s.send("x", { mask: false }), 1002],
    ["a message over the limit", (s) => s.send("x".repeat(200_000)), 1009],
  ];
  for (const [name, act, code] of cases) {
    const raw = await bare(`${server.ws}/portfolio`);
    act(raw.socket);
    assert.equal((await within(5_000, `close: ${name}`, raw.closed)).code, code, name);
  }
});

test("the raw endpoint, and refused handshakes", async () => {
  for (const path of ["/chat", "/chat/websocket"]) {
    const raw = await bare(server.ws + path, { origin: "https://csms.example.com" });
    raw.socket.send("hello");
    await raw.inbox.expect("来自服务器的消息！");
    raw.socket.close(1000);
    assert.equal((await within(5_000, "close", raw.closed)).code, 1000);
  }
  const foreign = await refused(`${server.ws}/chat`, { origin: "https://evil.example" });
  assert.equal(foreign.status, 403);
  const old = await refused(`${server.ws}/portfolio/websocket`, { protocolVersion: 8 });
  assert.equal(old.status, 426);
  assert.equal(old.headers["sec-websocket-version"], "13");
  const post = await fetch(`${server.url}/portfolio/websocket`, { method: "POST" });
  assert.equal(post.status, 405);
  assert.match(post.headers.get("allow") ?? "", /GET/);
});

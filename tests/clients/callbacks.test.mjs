// A third party calls back over HTTP and the right sessions get the message; presence; shutdown.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { application, start, within } from "./lib/server.mjs";
import { CONNECT, bare, modern } from "./lib/modern.mjs";
import { legacy } from "./lib/legacy.mjs";

let server;
before(async () => (server = await start(application())));
after(() => server?.stop());

const call = (callId, more = {}) => ({ callId, agentId: "7", from: "+86 138 0000 1111", ...more });

test("callbacks", async (t) => {
  const [a, b, other] = [
    await legacy(server, "7"), await legacy(server, "7"), await legacy(server, "8"),
  ];

  await t.test("an inbound call reaches every session of the agent", async () => {
    const answer = await server.callback("inbound", call("c-1"));
    assert.deepEqual([answer.status, answer.json], [200, { code: 0 }]);
    for (const page of [a, b]) {
      await page.mine.expect({ businessType: "CALL_IN", data: call("c-1") });
    }
  });

  await t.test("an outbound result with the same id: each callback has its own ids", async () => {
    const result = call("c-1", { result: "busy" });
    assert.equal((await server.callback("outbound", result)).status, 200);
    for (const page of [a, b]) {
      await page.mine.expect({ businessType: "CALL_OUT", data: result });
    }
  });

  await t.test("a repeated callback succeeds and pushes nothing", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => server.callback("inbound", call("c-1"))));
    for (const { status, json } of answers) assert.deepEqual([status, json], [200, { code: 0 }]);
  });

  await t.test("equal callbacks at once push once", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => server.callback("inbound", call("c-2"))));
    for (const answer of answers) assert.equal(answer.status, 200);
    for (const page of [a, b]) {
      await page.mine.expect({ businessType: "CALL_IN", data: call("c-2") });
    }
  });

  await t.test("refusals", async () => {
    const zeros = `sha256=${"0".repeat(64)}`;
    for (const signature of [zeros, "sha256=", "", "md5=00"]) {
      const answer = await server.callback("inbound", call("c-3"), signature);
      assert.equal(answer.status, 401, signature);
    }
    const missing = await server.call("/callback/inbound", call("c-3"));
    assert.equal(missing.status, 401, "no signature at all");
    assert.equal((await server.callback("inbound", "{not json")).status, 400);
    assert.equal((await server.callback("inbound", { agentId: "7" })).status, 400, "no id");
    assert.equal((await server.callback("inbound", { callId: "c-4" })).status, 400, "no user");
    const demo = await fetch(`${server.url}/demo/callback/inbound`, { method: "POST", body: "{}" });
    assert.equal(demo.status, 400, "signed by the demo, but still without an id");
  });

  await t.test("an agent who is offline is no error", async () => {
    assert.equal((await server.callback("inbound", call("c-5", { agentId: "404" }))).status, 200);
  });

  // One last callback each: it arrives next, so nothing refused or repeated was pushed before it.
  assert.equal((await server.callback("inbound", call("c-9"))).status, 200);
  assert.equal((await server.callback("inbound", call("c-10", { agentId: "8" }))).status, 200);
  for (const page of [a, b]) {
    await page.mine.expect({ businessType: "CALL_IN", data: call("c-9") });
  }
  await other.mine.expect({ businessType: "CALL_IN", data: call("c-10", { agentId: "8" }) });
  for (const page of [a, b, other]) {
    page.mine.empty();
    page.all.empty();
    await page.close();
  }
});

test("presence: online with the first session, offline with the last one", async () => {
  const boss = await modern(server, "/portfolio?userId=boss");
  const news = await boss.subscribe("/topic/presence");
  const next = async () => {
    const { user, status } = JSON.parse((await news.take()).body);
    return `${user} ${status}`;
  };
  const open = async (user) => {
    const raw = await bare(`${server.ws}/portfolio?userId=${user}`);
    raw.socket.send(CONNECT);
    assert.match(await raw.inbox.take(), /^CONNECTED\n/);
    return raw;
  };
  const close = async (raw) => {
    raw.socket.close(1000);
    await within(5_000, "close", raw.closed);
  };
  // Each `fence` is another user who comes and goes: nothing else was announced before that.
  const fence = async (user) => {
    await close(await open(user));
    assert.equal(await next(), `${user} ON_LINE`);
    assert.equal(await next(), `${user} OFF_LINE`);
  };

  const first = await open("71");
  assert.equal(await next(), "71 ON_LINE");
  const second = await open("71");
  await fence("72");
  const users = await server.call("/api/users");
  assert.equal(users.status, 200);
  assert.match(JSON.stringify(users.json), /"71"/);
  await close(first);
  await fence("73");
  // The last session ends without a DISCONNECT: its connection is cut.
  second.socket.terminate();
  assert.equal(await next(), "71 OFF_LINE");
  await fence("74");
  assert.doesNotMatch(JSON.stringify((await server.call("/api/users")).json), /"71"/);
  await boss.client.deactivate();
});

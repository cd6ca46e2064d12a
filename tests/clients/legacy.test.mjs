// The page of the original application, unchanged: Stomp.over(new SockJS("/portfolio")).

import assert from "node:assert/strict";
import { test } from "node:test";
import { application, start } from "./lib/server.mjs";
import { legacy } from "./lib/legacy.mjs";

const REPLY = { code: 0, mess: "服务端返回消息！" };
const TEST = { businessType: "TEST", data: { data: "The Data!", message: "The message!" } };
const TEST_ALL = {
  businessType: "TEST All",
  data: { data: "The All Data!", message: "The All message!" },
};

for (const [name, config] of [["embedded", undefined], ["configured", application()]]) {
  test(`the ${name} application`, async (t) => {
    const server = await start(config);
    t.after(() => server.stop());

    for (const user of ["7", undefined]) {
      await t.test(`exactly the page's calls, user: ${user ?? "none"}`, async () => {
        const page = await legacy(server, user, { receipts: false });
        page.trade();
        await page.mine.expect(REPLY);
        await page.close();
      });
    }

    await t.test("who receives what", async () => {
      const [a, b] = [await legacy(server, "7"), await legacy(server, "7")];
      const [other, nobody] = [await legacy(server, "8"), await legacy(server)];

      a.trade();
      await a.mine.expect(REPLY);
      await b.mine.expect(REPLY);

      assert.deepEqual((await server.toUser("7")).json, { code: 0, sessions: 2 });
      await a.mine.expect(TEST);
      await b.mine.expect(TEST);

      nobody.trade();
      await nobody.mine.expect(REPLY);

      assert.deepEqual((await server.toAll()).json, { code: 0, subscriptions: 4 });
      for (const page of [a, b, other, nobody]) await page.all.expect(TEST_ALL);

      const body = { businessType: "CALL", data: { line: 3, name: "呼叫" } };
      assert.deepEqual((await server.toUser("8", body)).json, { code: 0, sessions: 1 });
      await other.mine.expect(body);
      assert.deepEqual((await server.toAll(body)).json, { code: 0, subscriptions: 4 });
      for (const page of [a, b, other, nobody]) await page.all.expect(body);

      // Each client's last message is the only one that is left.
      for (const page of [a, b, other, nobody]) page.trade();
      for (const page of [a, b]) {
        await page.mine.expect(REPLY);
        await page.mine.expect(REPLY);
      }
      for (const page of [other, nobody]) await page.mine.expect(REPLY);
      for (const page of [a, b, other, nobody]) {
        page.mine.empty();
        page.all.empty();
        await page.close();
      }
    });
  });
}

test("a bad call of the HTTP push", async (t) => {
  const server = await start();
  t.after(() => server.stop());
  const cases = [
    ["/sendMsToUser?subscribePath=/queue/sub", 400],
    ["/sendMsToUser?userId=7", 400],
    ["/sendMsAll", 400],
    ["/sendMsAll?subscribePath=/nowhere", 404],
    ["/nothing", 404],
  ];
  for (const [path, status] of cases) {
    const answer = await server.call(path);
    assert.equal(answer.status, status, path);
    if (status === 400) {
      assert.equal(answer.json.code, 400, path);
      assert.ok(answer.json.msg, path);
    }
  }
});

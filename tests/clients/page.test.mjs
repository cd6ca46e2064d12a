// The page at /, and the original libraries, in headless Chromium.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { WORK, start } from "./lib/server.mjs";

const require = createRequire(import.meta.url);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
let server;
let browser;

before(async () => {
  mkdirSync(WORK, { recursive: true });
  server = await start();
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

// Opens a tab. Any error that the page logs fails the test at its end.
async function open(path, options = {}, url = server.url) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("console", (message) => {
    // Chromium logs every refused request, and the forged callback is meant to be refused.
    const refusal = message.text().includes("401");
    if (message.type() === "error" && !refusal) page.complaints.push(message.text());
  });
  await page.goto(url + path);
  return page;
}

async function close(page) {
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

const connected = (page, user) => page.getByText(`Online as ${user}`).waitFor();
const ringing = (page) => page.locator('#stage[data-state="ringing"]').waitFor();
const rows = (page, text) => page.locator("#trace tr", { hasText: text });

test("a callback pops up in the agent's tabs", async () => {
  const first = await open("/", { viewport: { width: 1440, height: 1000 } });
  await first.fill("#user", "7");
  await first.click("#connect");
  await connected(first, "7");
  const second = await open("/#as=7", { viewport: { width: 400, height: 860 } });
  await connected(second, "7");
  const other = await open("/#as=8");
  await connected(other, "8");

  const call = { callId: "page-1", agentId: "7", from: "+86 138 1234 5678", to: "+86 10 555" };
  assert.equal((await server.callback("inbound", call)).status, 200);
  for (const page of [first, second]) {
    await ringing(page);
    assert.equal(await page.locator("#stage-number").textContent(), call.from);
    assert.match(await page.locator("#announcer").textContent(), /138 1234 5678/);
  }
  await first.screenshot({ path: `${WORK}page-desk.png`, fullPage: true });
  await second.screenshot({ path: `${WORK}page-narrow.png`, fullPage: true });
  const overflow = await second.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the narrow page is ${overflow} px too wide`);

  // Answering in one tab ends the ringing in the other.
  await first.click("#answer");
  await first.locator('#stage[data-state="talking"]').waitFor();
  await second.locator('#stage[data-state="idle"]').waitFor();
  assert.equal(await other.locator("#stage").getAttribute("data-state"), "idle");
  for (const page of [first, second, other]) await close(page);
});

test("the second panel plays the provider", async () => {
  const page = await open("/#as=17", { viewport: { width: 1440, height: 1000 } });
  await connected(page, "17");
  await page.locator("#people li", { hasText: "17" }).waitFor();

  await page.click("#inbound");
  await ringing(page);
  await page.click("#again");
  await rows(page, "inbound (again)").getByText("none: known call").waitFor();
  assert.equal(await page.locator("#stage-queue").isVisible(), false, "the same call rings once");
  await page.click("#dismiss");
  await page.locator('#stage[data-state="idle"]').waitFor();

  await page.click("#forged");
  await rows(page, "(forged)").getByText("401").waitFor();
  await page.click('[data-result="busy"]');
  await page.locator("#calls .chip", { hasText: "busy" }).waitFor();

  await page.click("#trade");
  await page.locator("#mine li", { hasText: "服务端返回消息！" }).waitFor();
  await page.click("#push-user");
  await page.locator("#mine li", { hasText: "The message!" }).waitFor();
  await page.click("#push-all");
  await page.locator("#feed li", { hasText: "The All message!" }).waitFor();
  await page.fill("#words", "<img src=x onerror=alert(1)>");
  await page.click("#say button");
  await page.locator("#feed li", { hasText: "<img src=x" }).waitFor();
  assert.equal(await page.locator("#feed img").count(), 0, "text stays text");

  // The stand-in for the provider takes the call and calls back: nothing is reported as an error.
  await page.click("#dial button");
  await rows(page, "SEND /ws/call").locator(".push[data-good=true]").waitFor();
  await page.locator("#calls .chip", { hasText: "ringing" }).waitFor();
  await page.locator("#calls .chip", { hasText: "answered" }).waitFor();
  assert.equal(await page.locator("#mine .bad").count(), 0);
  await page.screenshot({ path: `${WORK}page-provider.png`, fullPage: true });

  await page.click("#disconnect");
  await page.getByText("Offline", { exact: true }).waitFor();
  await close(page);
});

// As when the example is copied and given a separate listener for the page. A page from any other
// port of this machine connects, too.
test("a copied example, with the page on a separate listener", async () => {
  const example = readFileSync(new URL("../../examples/call-centre.toml", import.meta.url), "utf8");
  const apart = example.replace("[listen]\n", '[listen]\napi-address = "127.0.0.1:0"\n');
  const copied = await start(apart, { RINGPUSH_CALLBACK_SECRET: undefined });
  try {
    const api = await copied.says(/listening on (http:\/\/\S+) for the API/);
    const page = await open("/#as=7", {}, api);
    await connected(page, "7");
    await page.getByText("anyone on this machine").waitFor();
    await page.click("#dial button");
    await page.locator("#calls .chip", { hasText: "answered" }).waitFor();
    await page.click("#forged");
    await rows(page, "(forged)").getByText("401").waitFor();
    assert.equal(await page.locator("#mine .bad").count(), 0);
    await close(page);
  } finally {
    await copied.stop();
  }
});

test("the page of a server that is not the demo shows the user's name", async () => {
  const plain = await start('[[endpoint]]\npath = "/stomp"\nprotocol = "stomp"\n');
  try {
    const page = await open("/#as=7", {}, plain.url);
    await page.getByText("Online without a name (the server did not accept 7)").waitFor();
    assert.equal(await page.locator("#demo").isVisible(), false);
    assert.equal(await page.locator("#provider").isVisible(), false);
    // The list of users asks for a token that the page does not have.
    page.complaints = page.complaints.filter((text) => !text.includes("403"));
    await close(page);
  } finally {
    await plain.stop();
  }
});

test("the original libraries in a browser", async () => {
  const page = await open("/");
  const files = {
    "/-old/sockjs.js": require.resolve("sockjs-client/dist/sockjs.min.js"),
    "/-old/stomp.js": require.resolve("stompjs/lib/stomp.min.js"),
  };
  for (const [path, file] of Object.entries(files)) {
    await page.route(`**${path}`, (route) => route.fulfill({ path: file }));
    await page.addScriptTag({ url: path });
  }
  for (const query of ["?userId=7", ""]) {
    const seen = await page.evaluate((query) => new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error("nothing within 10 s")), 10_000);
      const client = Stomp.over(new SockJS(`/portfolio${query}`));
      client.debug = null;
      const seen = {};
      const note = (name) => (frame) => {
        seen[name] = JSON.parse(frame.body);
        if (seen.mine && seen.all) client.disconnect(() => resolve(seen));
      };
      client.connect({}, () => {
        client.subscribe("/user/queue/sub", note("mine"));
        client.subscribe("/topic/all", note("all"));
        client.onreceipt = () => fetch("/sendMsAll?subscribePath=/topic/all");
        client.send("/ws/trade", { receipt: "r" }, JSON.stringify({ a: 1 }));
      }, reject);
    }), query);
    assert.deepEqual(seen.mine, { code: 0, mess: "服务端返回消息！" });
    assert.equal(seen.all.businessType, "TEST All");
  }
  await close(page);
});

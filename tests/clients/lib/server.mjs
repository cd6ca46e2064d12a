// Starts the server binary for a test, and stops it by its process id.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const WORK = fileURLToPath(new URL("../../.work/", import.meta.url));
export const SECRET = "a secret of the tests";

// The call-centre application with the changes that the tests need.
export function application({ broker = "", limits = "" } = {}) {
  return `
[demo]
enabled = true

[auth]
methods = ["query"]
query = { name = "userId" }

[[endpoint]]
path = "/chat"
protocol = "raw"
sockjs = true
allowed-origins = ["https://csms.example.com"]
on-message = { reply = "来自服务器的消息！" }

[[endpoint]]
path = "/portfolio"
protocol = "stomp"
sockjs = true
allowed-origins = ["*"]

[broker]
prefixes = ["/topic", "/queue"]
application-prefixes = ["/ws"]
user-prefix = "/user"
${broker}

[[allow]]
action = "send"
destination = "/topic/**"
users = "*"

[[application]]
destination = "/trade"
reply = { code = 0, mess = "服务端返回消息！" }
to-user = "/queue/sub"
broadcast = true

[[callback]]
path = "/callback/inbound"
profile = "generic"
secret-env = "RINGPUSH_CALLBACK_SECRET"
id = "/callId"
user = "/agentId"
destination = "/queue/sub"
business-type = "CALL_IN"

[[callback]]
path = "/callback/outbound"
profile = "generic"
secret-env = "RINGPUSH_CALLBACK_SECRET"
id = "/callId"
user = "/agentId"
destination = "/queue/sub"
business-type = "CALL_OUT"

[presence]
topic = "/topic/presence"

[limits]
${limits}
`;
}

// A promise that fails if it takes longer than `ms`. Tests wait for events, never for time.
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

let started = 0;

// Starts the binary with a configuration, or without one as the embedded demo.
export async function start(config, environment = {}) {
  const binary = process.env.RINGPUSH_BIN;
  if (!binary) throw new Error("RINGPUSH_BIN names the server binary");
  const options = ["serve", "--listen", "127.0.0.1:0", "--shards", "2"];
  if (config) {
    mkdirSync(WORK, { recursive: true });
    const file = `${WORK}clients-${process.pid}-${started++}.toml`;
    writeFileSync(file, config);
    options.push("--config", file);
  }
  const child = spawn(binary, options, {
    env: { ...process.env, RINGPUSH_CALLBACK_SECRET: SECRET, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return within(15_000, "ready line", ready(child)).catch((error) => {
    child.kill("SIGKILL");
    throw error;
  });
}

function ready(child) {
  return new Promise((resolve, reject) => {
    let out = "";
    let log = "";
    child.stderr.on("data", (data) => (log = (log + data).slice(-4_000)));
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the server ended with ${code}: ${out}${log}`)));
    child.stdout.on("data", (data) => {
      out = (out + data).slice(-4_000);
      const line = out.match(/listening on (http:\/\/\S+)\n/);
      if (line) resolve(new Server(child, line[1], () => log, () => out));
    });
  });
}

class Server {
  constructor(child, url, log, out) {
    Object.assign(this, { child, url, log, out, ws: url.replace("http", "ws") });
    this.exit = new Promise((resolve) => child.on("exit", (code, signal) => {
      resolve(code ?? signal);
    }));
  }

  // Waits until standard output matches the pattern, and returns the pattern's first group.
  async says(pattern) {
    while (!this.out().match(pattern)) {
      await within(15_000, `${pattern}`, once(this.child.stdout, "data"));
    }
    return this.out().match(pattern)[1];
  }

  // Asks it to exit, and returns its exit code.
  async stop() {
    this.child.kill("SIGTERM");
    try {
      return await within(15_000, "end of the server", this.exit);
    } catch (error) {
      this.child.kill("SIGKILL");
      throw new Error(`${error.message}; its log: ${this.log()}`);
    }
  }

  // GET without a body, POST with one: status and JSON of the answer.
  async call(path, body, headers = {}) {
    const options = { headers, signal: AbortSignal.timeout(10_000) };
    if (body !== undefined) {
      options.method = "POST";
      options.body = typeof body === "string" ? body : JSON.stringify(body);
      options.headers = { "content-type": "application/json", ...headers };
    }
    const answer = await fetch(this.url + path, options);
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, json: JSON.parse(text || "null") };
  }

  toUser(user, body, path = "/queue/sub") {
    const query = new URLSearchParams({ userId: user, subscribePath: path });
    return this.call(`/sendMsToUser?${query}`, body);
  }

  toAll(body, path = "/topic/all") {
    return this.call(`/sendMsAll?${new URLSearchParams({ subscribePath: path })}`, body);
  }

  // A signed callback, as the provider sends it.
  callback(kind, body, signature) {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const mac = createHmac("sha256", SECRET).update(text).digest("hex");
    return this.call(`/callback/${kind}`, text, { "x-signature": signature ?? `sha256=${mac}` });
  }
}

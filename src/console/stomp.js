// A small STOMP 1.2 client over one WebSocket: frames, heart-beats, receipts, and a reconnect
// whose waits double and are randomised, so that clients do not all return to a restarted server
// at once.

const OFFERED_BEAT = 10_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 20_000;
// A connection that lasted this long was good: after it, the next wait is short again.
const PROVEN_AFTER = 5_000;

const ESCAPES = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", ":": "\\c" };
const UNESCAPES = { "\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\c": ":" };

// STOMP 1.2: header values escape backslash, LF, CR and colon; CONNECT and CONNECTED do not.
const escape = (text) => String(text).replace(/[\\\n\r:]/g, (c) => ESCAPES[c]);
const unescape = (text) => text.replace(/\\[\\nrc]/g, (pair) => UNESCAPES[pair]);

export function encode(command, headers = {}, body = "") {
  const plain = command === "CONNECT" ? String : escape;
  const lines = Object.entries(headers).map(([name, value]) => `${plain(name)}:${plain(value)}`);
  return `${[command, ...lines].join("\n")}\n\n${body}\0`;
}

export function decode(text) {
  const start = text.search(/[^\r\n]/);
  if (start < 0) return null; // end-of-lines alone are a heart-beat
  const end = text.search(/\r?\n\r?\n/);
  const lines = text.slice(start, end < 0 ? undefined : end).split(/\r?\n/);
  const command = lines.shift();
  const plain = command === "CONNECTED" ? String : unescape;
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = plain(line.slice(0, colon));
    // STOMP 1.2: if a header is repeated, the first one counts.
    if (!(name in headers)) headers[name] = plain(line.slice(colon + 1));
  }
  const rest = text.slice(end).replace(/^\r?\n\r?\n/, "");
  const nul = rest.lastIndexOf("\0");
  return { command, headers, body: nul < 0 ? rest : rest.slice(0, nul) };
}

export class StompClient {
  // `on` has the functions state(name, detail), error(frame), and heard() for any bytes received.
  constructor(url, on) {
    Object.assign(this, { url, on, wanted: false, socket: null, tries: 0, next: 0 });
    this.subscriptions = new Map(); // id -> { destination, headers, callback }
    this.receipts = new Map(); // receipt-id -> callback
  }

  open() {
    this.wanted = true;
    clearTimeout(this.retry);
    this.on.state("connecting");
    const socket = new WebSocket(this.url, ["v12.stomp"]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => this.#write("CONNECT", {
      "accept-version": "1.2",
      host: location.hostname,
      "heart-beat": `${OFFERED_BEAT},${OFFERED_BEAT}`,
    });
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = (event) => this.#closed(socket, event);
  }

  close() {
    this.wanted = false;
    clearTimeout(this.retry);
    const socket = this.socket;
    if (!this.connected) {
      if (socket) socket.close();
      else this.on.state("offline");
      return;
    }
    this.send("DISCONNECT", {}, "", () => socket.close(1000));
    // The server closes after the receipt; if it is gone, the page must not wait for it.
    setTimeout(() => socket.close(), 2_000);
  }

  get connected() {
    return Boolean(this.session);
  }

  subscribe(destination, callback) {
    const id = `sub-${this.next++}`;
    this.subscriptions.set(id, { destination, callback });
    if (this.connected) this.send("SUBSCRIBE", { id, destination });
    return id;
  }

  // Sends a frame. With `done` it asks for a receipt, and calls `done` when that arrives.
  send(command, headers, body = "", done = null) {
    if (!this.connected) return false;
    const all = { ...headers };
    if (done) {
      all.receipt = `r-${this.next++}`;
      this.receipts.set(all.receipt, done);
    }
    this.#write(command, all, body);
    return true;
  }

  #write(command, headers, body) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(encode(command, headers, body));
  }

  #take(data) {
    this.heardAt = performance.now();
    this.on.heard?.();
    const frame = decode(typeof data === "string" ? data : new TextDecoder().decode(data));
    if (!frame) return;
    const { command, headers } = frame;
    if (command === "CONNECTED") this.#welcome(headers);
    else if (command === "MESSAGE") this.subscriptions.get(headers.subscription)?.callback(frame);
    else if (command === "RECEIPT") {
      const done = this.receipts.get(headers["receipt-id"]);
      this.receipts.delete(headers["receipt-id"]);
      done?.(frame);
    } else if (command === "ERROR") this.on.error(frame);
  }

  #welcome(headers) {
    this.session = headers.session || "connected";
    this.welcomedAt = performance.now();
    for (const [id, { destination }] of this.subscriptions) {
      this.send("SUBSCRIBE", { id, destination });
    }
    // STOMP 1.2, heart-beating: each direction takes the larger of the wish and the offer.
    const [gives, wants] = (headers["heart-beat"] || "0,0").split(",").map(Number);
    const out = wants ? Math.max(wants, OFFERED_BEAT) : 0;
    const inward = gives ? Math.max(gives, OFFERED_BEAT) : 0;
    if (out) this.beat = setInterval(() => this.socket.send("\n"), out);
    if (inward) this.watch = setInterval(() => this.#check(inward * 2.5), inward);
    this.on.state("online", headers);
  }

  #check(patience) {
    if (performance.now() - this.heardAt > patience) this.socket.close(4000, "no heart-beat");
  }

  #closed(socket, event) {
    if (socket !== this.socket) return;
    clearInterval(this.beat);
    clearInterval(this.watch);
    const proven = this.connected && performance.now() - this.welcomedAt > PROVEN_AFTER;
    this.tries = proven ? 0 : this.tries;
    this.session = this.socket = null;
    this.receipts.clear();
    if (!this.wanted) return this.on.state("offline", event);
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.tries++) * (0.5 + Math.random());
    this.retry = setTimeout(() => this.open(), wait);
    this.on.state("waiting", { code: event.code, reason: event.reason, wait });
  }
}

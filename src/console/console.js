// The agent console: one agent's desk on the left, a simulated telephony provider on the right.
// Everything that comes from outside is shown as text, never as markup.

import { StompClient } from "/stomp.js";
import { Trace, clock, make, span } from "/trace.js";

const at = (id) => document.getElementById(id);
const trace = new Trace(at("trace"), at("trace-empty"));
const RESULTS = { answered: "answered", busy: "busy", "no-answer": "no answer" };
const LIST_ROWS = 30;
const HOUSE_NUMBER = "+86 10 5555 0100";

let client = null; // the desk's connection
let wanted = ""; // the user that the page asked for
let me = ""; // the user that the server named in CONNECTED
let mayAnnounce = true; // false once the server has refused a SEND to /topic/all

// ---- small helpers -------------------------------------------------------------------------

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function addRow(list, parts, kind) {
  const row = make("li", kind);
  row.append(...parts);
  list.prepend(row);
  while (list.children.length > LIST_ROWS) list.lastChild.remove();
  return row;
}

function addText(list, kind, text, className) {
  const parts = [make("time", "", clock()), make("b", "", kind), make("span", "", text)];
  return addRow(at(list), parts, className);
}

function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

// Short, and unique enough for a demo.
const newCallId = () => `c-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 6)}`;

// ---- what the server says about itself ----------------------------------------------------------

// Its STOMP endpoint (with the origin if that differs from the page's), how it names users, and
// whether this is the demo.
let setup = null;
const told = fetch("/console.json").then((answer) => answer.json()).then(showSetup, (error) => {
  at("status").lastElementChild.textContent = `Cannot read the server's description: ${error}`;
});

function showSetup(answer) {
  setup = answer;
  at("demo").hidden = at("provider").hidden = setup.mode !== "demo";
  at("board").dataset.mode = setup.mode;
  if (!setup.identity.query) {
    at("user").value = "";
    at("user").disabled = true;
    at("user").placeholder = "named by the server";
    at("second").href = "/#as=";
  }
  if (!setup.path) {
    at("connect").disabled = true;
    at("status").lastElementChild.textContent = "No [[endpoint]] has the protocol stomp";
  }
}

// ---- the connection ------------------------------------------------------------------------

const STATUS = {
  offline: "Offline",
  connecting: "Connecting…",
  online: "Online",
  waiting: "Connection lost",
};

async function connect(user) {
  await told;
  if (!setup?.path) return;
  client?.close();
  if (user.trim() !== wanted) [waiting.length, current] = [0, null];
  wanted = me = user.trim();
  showStage();
  const name = setup.identity.query;
  const query = name && wanted ? `?${name}=${encodeURIComponent(wanted)}` : "";
  const endpoint = (setup.endpoint ?? location.origin).replace(/^http/, "ws") + setup.path;
  const mine = new StompClient(endpoint + query, {
    state: (name, detail) => mine === client && showState(name, detail),
    error: (frame) => mine === client && onError(frame),
  });
  const hears = {
    "/user/queue/sub": onMine,
    "/user/queue/errors": onUserError,
    "/topic/presence": onPresence,
    "/topic/all": onFeed,
  };
  for (const [destination, on] of Object.entries(hears)) {
    mine.subscribe(destination, (frame) => mine === client && on(frame));
  }
  client = mine;
  client.open();
}

function showState(name, detail) {
  const status = at("status");
  status.dataset.state = name;
  let text = STATUS[name];
  if (name === "online") {
    me = detail["user-name"] ?? "";
    text += me ? ` as ${me}` : " without a name";
    if (wanted !== me && wanted) text += ` (the server did not accept ${wanted})`;
    status.title = `session ${detail.session || "?"}, STOMP ${detail.version || "?"}`;
    loadPeople();
  }
  if (name === "waiting") {
    const why = detail.reason || (detail.code === 1006 ? "" : `code ${detail.code}`);
    text += `${why ? ` (${why})` : ""}, trying again in ${(detail.wait / 1000).toFixed(1)} s`;
  }
  if (name === "offline") showPeople();
  status.lastElementChild.textContent = text;
  at("disconnect").disabled = name === "offline";
  at("connect").textContent = name === "offline" ? "Connect" : "Reconnect";
  at("connect").classList.toggle("primary", name === "offline");
  for (const button of document.querySelectorAll("[data-live]")) {
    button.disabled = name !== "online";
  }
  at("avatar").textContent = (me || "?").slice(0, 2).toUpperCase();
}

function onError(frame) {
  const text = frame.body || frame.headers.message || "error";
  if (announced && /all/.test(text)) mayAnnounce = false;
  addText("mine", "ERROR", text, "bad");
}

// ---- calls -----------------------------------------------------------------------------------

const waiting = []; // ringing calls, oldest first
let current = null; // the call answered in this tab
const rowOf = new Map(); // callId -> its row in the list of calls

function onMine(frame) {
  const message = parse(frame.body);
  const data = message?.data ?? {};
  if (message?.businessType === "CALL_IN") {
    trace.arrived(`call ${data.callId}`);
    ring(data);
  } else if (message?.businessType === "CALL_OUT") {
    trace.arrived(`call ${data.callId}`);
    if (dialled?.callId === data.callId) dialled = null;
    logCall(data, "out", String(data.result ?? "done"));
  } else if (dialled && message?.callId === dialled.callId) {
    trace.arrived("dial");
    setResult(dialled.callId, "ringing");
  } else {
    trace.arrived(message?.businessType === "TEST" ? "test" : "reply");
    const kind = message?.businessType ?? (message?.code === undefined ? "message" : "reply");
    addText("mine", kind, frame.body);
  }
}

function onUserError(frame) {
  trace.arrived("dial");
  const text = parse(frame.body)?.msg ?? frame.body;
  setResult(dialled?.callId, "failed");
  addText("mine", "error", text, "bad");
}

function ring(data) {
  // After a reconnect the same call may arrive again.
  if ([current, ...waiting].some((call) => call?.data.callId === data.callId)) return;
  waiting.push({ data, since: performance.now() });
  logCall(data, "in", "ringing");
  at("announcer").textContent = `Incoming call from ${data.from ?? "an unknown number"}`;
  showStage();
}

function logCall(data, way, result) {
  const id = String(data.callId ?? "");
  const number = String((way === "in" ? data.from : data.to) ?? "unknown");
  rowOf.get(id)?.remove();
  const chip = make("em", "chip", RESULTS[result] ?? result);
  chip.dataset.result = result;
  const arrow = make("b", `way ${way}`, way === "in" ? "in" : "out");
  const parts = [make("time", "", clock()), arrow, make("span", "", number), chip];
  const row = addRow(at("calls"), parts);
  row.title = id;
  rowOf.set(id, row);
}

function setResult(id, result) {
  const chip = rowOf.get(String(id ?? ""))?.querySelector(".chip");
  if (!chip) return;
  chip.textContent = result;
  chip.dataset.result = result;
}

const STAGE = { idle: "No call waiting", ringing: "Incoming call", talking: "On the line" };

function showStage() {
  const call = current ?? waiting[0];
  const stage = at("stage");
  stage.dataset.state = current ? "talking" : call ? "ringing" : "idle";
  at("stage-buttons").hidden = !call;
  at("answer").hidden = Boolean(current);
  at("dismiss").textContent = current ? "Hang up" : "Dismiss";
  const number = String(call?.data.from ?? "unknown number");
  const more = current ? waiting.length : waiting.length - 1;
  at("stage-queue").hidden = more < 1;
  at("stage-queue").textContent = `${more} more waiting`;
  at("stage-kind").textContent = STAGE[stage.dataset.state];
  at("stage-number").textContent = call ? number : "Calls for this agent pop up here";
  const { callId, agentId, to } = call?.data ?? {};
  const facts = [agentId && `agent ${agentId}`, to && `line ${to}`, callId && `call ${callId}`];
  at("stage-facts").textContent = call ? facts.filter(Boolean).join("  ·  ") : "";
  document.title = call && !current ? `☎ ${number} is calling` : "ringpush agent console";
  showTimer();
}

function showTimer() {
  const call = current ?? waiting[0];
  at("stage-timer").textContent = call ? duration(performance.now() - call.since) : "";
}

function answer() {
  if (current || !waiting.length) return;
  current = waiting.shift();
  current.since = performance.now();
  setResult(current.data.callId, "answered");
  announce("CALL_ANSWERED", { callId: current.data.callId, from: current.data.from, agentId: me });
  showStage();
}

function dismiss() {
  const call = current ?? waiting.shift();
  if (call && !current) setResult(call.data.callId, "dismissed");
  current = null;
  showStage();
}

// Another tab of this agent has answered: stop ringing here.
function retract(id) {
  const index = waiting.findIndex((call) => call.data.callId === id);
  if (index < 0) return;
  waiting.splice(index, 1);
  setResult(id, "answered elsewhere");
  showStage();
}

// ---- everybody -------------------------------------------------------------------------------

let announced = false;

function announce(businessType, data) {
  if (!mayAnnounce) return;
  announced = true;
  const headers = { destination: "/topic/all", "content-type": "application/json" };
  client?.send("SEND", headers, JSON.stringify({ businessType, data }));
}

function onFeed(frame) {
  const message = parse(frame.body);
  const { businessType: kind = "message", data = {} } = message ?? {};
  let text = frame.body;
  if (kind === "TEST All") trace.arrived("test all");
  if (kind === "NOTE") {
    trace.arrived(`note ${data.id}`);
    text = `${data.from || "somebody"}: ${data.text}`;
  } else if (kind === "CALL_ANSWERED") {
    text = `agent ${data.agentId || "?"} took ${data.from ?? data.callId}`;
    if (String(data.agentId) === me) retract(data.callId);
  }
  addText("feed", kind, text);
}

const people = new Map(); // user -> { sessions, epoch, online }

function onPresence(frame) {
  const event = parse(frame.body);
  if (!event?.user) return;
  const known = people.get(String(event.user));
  // News with an older epoch was overtaken by newer news.
  if (known?.epoch > event.epoch) return;
  note(event);
  showPeople(String(event.user));
}

function note({ user, status = "ON_LINE", sessions, epoch }) {
  const count = Array.isArray(sessions) ? sessions.length : Number(sessions ?? 1);
  people.set(String(user), { online: status === "ON_LINE" && count > 0, sessions: count, epoch });
}

async function loadPeople() {
  try {
    const answer = await fetch("/api/users", { headers: { accept: "application/json" } });
    if (!answer.ok) return;
    const body = await answer.json();
    const users = Array.isArray(body) ? body : body.users ?? body.data ?? [];
    people.clear();
    for (const user of users) note(typeof user === "object" ? user : { user });
  } catch {
    // The list is only a start: presence messages update it from here on.
  }
  showPeople();
}

function showPeople(changed) {
  const live = client?.connected ?? false;
  const names = [...people.keys()].filter((name) => people.get(name).online).sort(
    (a, b) => a.localeCompare(b, undefined, { numeric: true }));
  at("people").replaceChildren(...names.map((name) => {
    const { sessions } = people.get(name);
    const row = make("li", name === changed ? "fresh" : "");
    row.append(make("i", "dot"), make("span", "", name));
    if (sessions > 1) row.append(make("em", "", `${sessions} tabs`));
    if (name === me) row.append(make("em", "", "you"));
    return row;
  }));
  at("people").classList.toggle("stale", !live);
  at("counts").textContent = live ? `${names.length} online` : "";
}

// ---- requests --------------------------------------------------------------------------------

async function request(label, path, options, expectation) {
  const line = trace.begin(label, expectation);
  try {
    const answer = await fetch(path, options);
    const text = await answer.text();
    const good = answer.ok;
    const ms = trace.answered(line, String(answer.status), good);
    showAnswer(String(answer.status), good, `${label}, ${span(ms)}`, text);
    return good;
  } catch (error) {
    trace.answered(line, "failed", false);
    showAnswer("failed", false, label, String(error.message));
    return false;
  }
}

function showAnswer(status, good, what, text) {
  const json = parse(text);
  at("answer-status").textContent = status;
  at("answer-status").dataset.good = good;
  at("answer-what").textContent = what;
  at("answer-body").textContent = json === null ? text : JSON.stringify(json, null, 1);
}

// Null if this tab will receive the push that a button causes; otherwise why it will not.
const forMe = (user) => (client?.connected && user === me ? null : "not for this tab");

let last = null; // the callback sent last, for "Same again"
let dialled = null; // the agent's last outbound call

function callback(kind, body, repeated = false) {
  last = { kind, body };
  at("again").disabled = false;
  const other = forMe(body.agentId);
  const silence = other ?? (repeated ? "none: known call" : "none");
  const key = `call ${body.callId}`;
  const options = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const label = `POST /callback/${kind}${repeated ? " (again)" : ""}`;
  return request(label, `/demo/callback/${kind}`, options,
    { key, silence, quiet: Boolean(repeated || other) });
}

function inboundCall() {
  return {
    callId: newCallId(),
    agentId: at("agent").value.trim(),
    from: at("caller").value.trim(),
    to: HOUSE_NUMBER,
    at: new Date().toISOString(),
  };
}

function outboundResult(result) {
  const fresh = { callId: newCallId(), agentId: at("agent").value.trim(), to: at("caller").value };
  const call = dialled ?? fresh;
  dialled = null;
  return { ...call, from: HOUSE_NUMBER, result, at: new Date().toISOString() };
}

// The page has no secret, so any signature it makes is wrong. The request goes to the path where
// the server would sign for the page, since callbacks may have another listener than the page.
function forgedCall() {
  const headers = {
    "content-type": "application/json",
    "x-signature": `sha256=${"0".repeat(64)}`,
  };
  const options = { method: "POST", headers, body: JSON.stringify(inboundCall()) };
  request("POST /callback/inbound (forged)", "/demo/callback/inbound", options,
    { key: "forged", silence: "none: refused", quiet: true });
}

function sendFrame(label, destination, body, expectation) {
  const line = trace.begin(label, expectation);
  const headers = { destination, "content-type": "application/json" };
  client.send("SEND", headers, JSON.stringify(body), () => trace.answered(line, "RECEIPT", true));
}

// ---- wiring ----------------------------------------------------------------------------------

at("identity").addEventListener("submit", (event) => {
  event.preventDefault();
  connect(at("user").value);
});
at("disconnect").addEventListener("click", () => client?.close());
at("user").addEventListener("input", () => {
  const user = at("user").value.trim();
  at("second").href = `/#as=${encodeURIComponent(user)}`;
  at("agent").value = user;
});
at("answer").addEventListener("click", answer);
at("dismiss").addEventListener("click", dismiss);
at("trade").addEventListener("click", () =>
  sendFrame("SEND /ws/trade", "/ws/trade", { from: me, at: Date.now() }, { key: "reply" }));
at("dial").addEventListener("submit", (event) => {
  event.preventDefault();
  dialled = { callId: newCallId(), agentId: me, to: at("number").value.trim() };
  logCall(dialled, "out", "dialling");
  const expectation = { key: "dial", silence: "no reply" };
  sendFrame("SEND /ws/call", "/ws/call", dialled, expectation);
});
at("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const note = { id: newCallId(), from: me, text: at("words").value.trim() };
  if (!note.text) return;
  announced = true;
  sendFrame("SEND /topic/all", "/topic/all", { businessType: "NOTE", data: note },
    { key: `note ${note.id}` });
  at("words").value = "";
});
at("inbound").addEventListener("click", () => callback("inbound", inboundCall()));
for (const button of document.querySelectorAll("[data-result]")) {
  const { result } = button.dataset;
  button.addEventListener("click", () => callback("outbound", outboundResult(result)));
}
at("again").addEventListener("click", () => callback(last.kind, last.body, true));
at("forged").addEventListener("click", forgedCall);
at("push-user").addEventListener("click", () => {
  const user = at("agent").value.trim();
  const silence = forMe(user);
  const query = new URLSearchParams({ userId: user, subscribePath: "/queue/sub" });
  request("GET /sendMsToUser", `/sendMsToUser?${query}`, {},
    { key: "test", silence: silence ?? "none", quiet: Boolean(silence) });
});
at("push-all").addEventListener("click", () => {
  const away = client?.connected ? null : "not connected";
  request("GET /sendMsAll", "/sendMsAll?subscribePath=%2Ftopic%2Fall", {},
    { key: "test all", silence: away ?? "none", quiet: Boolean(away) });
});
at("clear").addEventListener("click", () => trace.clear());
setInterval(showTimer, 500);
window.addEventListener("online", () => client?.wanted && !client.socket && client.open());

// `/#as=8` opens the page and connects as user 8 at once: handy for a second tab.
const as = new URLSearchParams(location.hash.slice(1)).get("as");
if (as !== null) {
  at("user").value = as;
  at("user").dispatchEvent(new Event("input"));
  connect(as);
}

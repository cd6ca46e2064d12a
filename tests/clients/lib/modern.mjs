// @stomp/stompjs 7 over a plain WebSocket, and a bare WebSocket for what no library sends.

import { Client } from "@stomp/stompjs";
import WebSocket from "ws";
import { Inbox } from "./inbox.mjs";
import { within } from "./server.mjs";

let count = 0;

export async function modern(server, path, options = {}) {
  const received = { errors: new Inbox("errors"), closed: null };
  let socket;
  const client = new Client({
    reconnectDelay: 0,
    ...options,
    webSocketFactory: () => {
      socket = new WebSocket(server.ws + path, client.stompVersions.protocolVersions());
      return socket;
    },
  });
  client.onStompError = (frame) => received.errors.put(frame);
  received.closed = new Promise((resolve) => (client.onWebSocketClose = resolve));
  await within(5_000, "CONNECTED", new Promise((resolve) => {
    client.onConnect = (frame) => resolve(Object.assign(received, { connected: frame }));
    client.activate();
  }));
  const receipt = (act) => {
    const id = `r-${count++}`;
    const done = new Promise((resolve) => client.watchForReceipt(id, resolve));
    act({ receipt: id });
    return within(5_000, `receipt ${id}`, done);
  };
  // Subscribes, and returns the inbox once the server has confirmed the subscription.
  const subscribe = async (destination, headers = {}) => {
    const inbox = new Inbox(destination);
    await receipt((more) => client.subscribe(destination, (frame) => inbox.put(frame), {
      ...headers, ...more,
    }));
    return inbox;
  };
  return { client, socket, receipt, subscribe, ...received };
}

// A bare WebSocket: messages as text, the close event, pings.
export async function bare(url, options = {}) {
  const socket = new WebSocket(url, options.protocols ?? [], options);
  const inbox = new Inbox(url);
  const pings = new Inbox("pings");
  socket.on("message", (data) => inbox.put(String(data)));
  socket.on("ping", () => pings.put("ping"));
  const closed = new Promise((resolve) => {
    socket.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
  });
  await within(5_000, "open", new Promise((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  }));
  return { socket, inbox, pings, closed };
}

// The refusal of a handshake: status and headers.
export function refused(url, options = {}) {
  const socket = new WebSocket(url, [], options);
  socket.on("error", () => {});
  return within(5_000, "refusal", new Promise((resolve, reject) => {
    socket.on("unexpected-response", (_, { statusCode: status, headers }) => {
      socket.terminate();
      resolve({ status, headers });
    });
    socket.on("open", () => reject(new Error("the handshake was not refused")));
  }));
}

export const CONNECT = "CONNECT\naccept-version:1.2\nhost:x\n\n\0";

// A broadcast server on Node's ws: every message of a client goes to all clients.
// Run `npm install` in this folder first.
import { WebSocketServer, WebSocket } from "ws";

const [host, port] = (process.argv[2] ?? "127.0.0.1:9001").split(":");
const server = new WebSocketServer({ host, port: Number(port), backlog: 4096 });
server.on("listening", () => console.log(`listening on ${host}:${port}`));
server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", (data, isBinary) => {
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    }
  });
});

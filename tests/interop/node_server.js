// A server with Node's ws: the path says what to do, the query with what. `id` is told with the outcome.
// Arguments: a certificate and its key, for a second port with TLS.
"use strict";

const fs = require("fs");
const http = require("http");
const https = require("https");
const { WebSocketServer } = require("ws");
const {
  MIB, BAD_UTF8, MESSAGES, Events, binary, text, deflateOptions, agreed, equal, sendFragments, ok, failed,
} = require("./node_common.js");

async function end(events) {
  for (;;) {
    const event = await events.any("close");
    if (event.type === "close") return [event.code, event.reason];
    if (event.type === "error") throw event.error;
  }
}

const scenarios = {
  async echo(ws, events) {
    ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
    return end(events);
  },

  // Tells what was negotiated; then as echo.
  async agreed(ws, events) {
    ws.send(JSON.stringify([agreed(ws), ws.protocol || null]));
    return scenarios.echo(ws, events);
  },

  // Waits for the end of the connection, whatever it is.
  async gone(ws, events) {
    while ((await events.any("close")).type !== "close");
    return null;
  },

  async headers(ws, events, query, request) {
    const header = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      header.push([request.rawHeaders[i].toLowerCase(), request.rawHeaders[i + 1]]);
    }
    ws.send(JSON.stringify({ target: request.url, header }));
    return end(events);
  },

  async fragments(ws, events) {
    for (const [type, pieces] of MESSAGES) {
      sendFragments(ws, type, pieces, true, true);
      await events.pong("0");
      await events.pong("1");
    }
    return end(events);
  },

  async pings(ws, events) {
    for (const payload of [Buffer.alloc(0), Buffer.from("p"), binary(125), Buffer.from("ä€😀")]) {
      ws.ping(payload);
      await events.pong(payload);
    }
    ws.send("pinged");
    return end(events);
  },

  async flood(ws, events, query) {
    for (let number = 0; number < Number(query.get("count")); number++) ws.send(number % 2 ? text(MIB) : binary(MIB));
    return end(events);
  },

  async close(ws, events, query) {
    if (query.get("before")) ws.send(query.get("before"));
    ws.close(Number(query.get("code")), query.get("reason"));
    return end(events);
  },

  async big(ws, events, query) {
    ws.send(binary(Number(query.get("size"))));
    return end(events);
  },

  async small(ws, events) {
    equal((await events.next("error")).error.code, "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", "error");
    return [(await events.next("close")).code];
  },

  async bad_utf8(ws, events, query) {
    ws.send(BAD_UTF8[Number(query.get("number"))], { binary: false });
    return end(events);
  },
};

async function serve(ws, request) {
  const url = new URL(request.url, "http://localhost");
  const events = new Events(ws);
  try {
    ok(url.searchParams.get("id"), await scenarios[url.pathname.slice(1)](ws, events, url.searchParams, request));
  } catch (error) {
    failed(request.url, error);
  }
}

// Query: `deflate` has options of compression, `known` the names in order of preference, `forced` one that is answered in any case.
function upgrade(request, socket, head) {
  const query = new URL(request.url, "http://localhost").searchParams;
  const given = (name) => JSON.parse(query.get(name) || "null");
  const handleProtocols = (offered) => query.get("forced") || (given("known") || []).find((name) => offered.has(name));
  const options = { noServer: true, maxPayload: 2 * MIB, perMessageDeflate: deflateOptions(given("deflate")), handleProtocols };
  const server = new WebSocketServer(options);
  if (query.get("forced") && !request.headers["sec-websocket-protocol"]) {
    server.on("headers", (headers) => headers.push(`Sec-WebSocket-Protocol: ${query.get("forced")}`));
  }
  server.handleUpgrade(request, socket, head, (ws) => serve(ws, request));
}

function listen(server) {
  server.on("upgrade", upgrade);
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

async function main() {
  const [cert, key] = process.argv.slice(2).map((path) => fs.readFileSync(path));
  ok("port", [await listen(http.createServer()), await listen(https.createServer({ cert, key }))]);
}

process.on("uncaughtException", (error) => failed("node_server", error));
process.stdin.on("data", () => {});
process.stdin.on("end", () => process.exit(0));
main();

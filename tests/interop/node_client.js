// A client with Node's ws: runs the scenarios that standard input names.
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const readline = require("readline");
const WebSocket = require("ws");
const {
  MIB, SIZES, BAD_UTF8, MESSAGES, Mismatch, Events, binary, text, phases, deflateOptions, agreed, equal, sendFragments, ok, failed,
} = require("./node_common.js");

async function connect(url, { protocols = [], options = {}, pings = false } = {}) {
  const ws = new WebSocket(url, protocols, options);
  const events = new Events(ws, { pings });
  ws.on("open", () => events.put({ type: "open" }));
  await events.next("open");
  return [ws, events];
}

const scenarios = {
  async sizes({ url, ca }) {
    const [ws, events] = await connect(url, { options: ca ? { ca: fs.readFileSync(ca) } : {} });
    for (const size of SIZES) {
      for (const data of [text(size), binary(size)]) {
        ws.send(data);
        await events.data(data, `echo of ${size} bytes`);
      }
    }
    const noise = crypto.randomBytes(MIB);
    ws.send(noise);
    await events.data(noise, "echo of noise");
    ws.close(1000);
    await events.closed(1000);
  },

  async fragments({ url }) {
    const [ws, events] = await connect(url);
    for (const [type, pieces] of MESSAGES) {
      sendFragments(ws, type, pieces, true);
      await events.pong("0");
      await events.pong("1");
      const whole = Buffer.concat(pieces);
      await events.data(type === "text" ? whole.toString() : whole, "echo of a fragmented message");
    }
    ws.close(1000);
    await events.closed(1000);
  },

  async pings({ url }) {
    const [ws, events] = await connect(url);
    for (const payload of [Buffer.alloc(0), Buffer.from("p"), binary(125), Buffer.from("ä€😀")]) {
      ws.ping(payload);
      await events.pong(payload);
    }
    ws.send("ping me");
    await events.data("pinged", "after the server's pings");
    ws.pong("nobody asked");
    ws.close(1000);
    await events.closed(1000);
  },

  async flood({ url, count }) {
    const [ws, events] = await connect(url);
    // Of pings that wait for their pong only the last needs one (section 5.5.3).
    const pongs = [];
    ws.removeAllListeners("pong");
    const last = new Promise((resolve) => {
      ws.on("pong", (data) => {
        pongs.push(Number(data));
        if (Number(data) === count - 1) resolve();
      });
    });
    ws.send("go");
    for (let number = 0; number < count; number++) {
      ws.ping(`${number}`);
      await events.data(number % 2 ? text(MIB) : binary(MIB), `message ${number}`);
    }
    await last;
    equal(pongs, [...new Set(pongs)].sort((a, b) => a - b), "pongs");
    ws.close(1000);
    await events.closed(1000);
  },

  async close_first({ url, code, reason }) {
    const [ws, events] = await connect(url);
    if (code === null) ws.close();
    else ws.close(code, reason);
    await events.closed(code === null ? 1005 : code);
  },

  async be_closed({ url, code, reason, before }) {
    const [, events] = await connect(url);
    for (const data of before) await events.data(data, "a message before the close");
    await events.closed(code, reason);
  },

  async too_big({ url, in_flight }) {
    const fragmented = [[binary(MIB), Buffer.from("x"), Buffer.alloc(0)], Array(8).fill(binary(MIB - 1))];
    for (const pieces of in_flight ? fragmented : [[binary(MIB + 1)], [binary(8 * MIB)]]) {
      const [ws, events] = await connect(url);
      sendFragments(ws, "binary", pieces, false);
      await events.closed(1009);
    }
  },

  async bad_utf8({ url, number, in_flight }) {
    const bad = BAD_UTF8[number];
    const fine = Buffer.from("fine");
    const fragmented = [[bad.subarray(0, 1), bad.subarray(1), fine], [fine, bad, fine]];
    for (const pieces of in_flight ? fragmented : [[bad], [fine, Buffer.from("616263c3", "hex")]]) {
      const [ws, events] = await connect(url);
      sendFragments(ws, "text", pieces, false);
      await events.closed(1007);
    }
  },

  async offers({ url, compression, subprotocols, header }) {
    const ws = new WebSocket(url, subprotocols, { perMessageDeflate: compression, headers: Object.fromEntries(header) });
    const events = new Events(ws);
    const request = ws._req;
    const responded = new Promise((resolve) => ws.on("upgrade", (response) => resolve(response.headers)));
    ws.on("open", () => events.put({ type: "open" }));
    if (subprotocols.length) {
      // ws insists that a server picks one, and ends the connection: no server without subprotocols can please it.
      equal((await events.next("error")).data, "Server sent no subprotocol", "error");
      await events.closed(1006);
    } else {
      await events.next("open");
      equal(ws.extensions, "", "extensions");
      equal(ws.protocol, "", "subprotocol");
      ws.send("x".repeat(10000));
      await events.data("x".repeat(10000), "echo");
      ws.close(1000);
      await events.closed(1000);
    }
    return { extensions: request.getHeader("sec-websocket-extensions") || null, header: await responded };
  },

  async compressed({ url, deflate }) {
    const [ws, events] = await connect(url, { options: { perMessageDeflate: deflateOptions(deflate) } });
    for (const phase of phases()) {
      for (const data of phase) {
        ws.ping("between");
        ws.send(data);
        await events.pong("between");
        await events.data(data, `echo of ${data.length}`);
      }
      ws.send("next");
      await events.data("next", "echo");
    }
    for (const [type, pieces] of MESSAGES) {
      sendFragments(ws, type, pieces, true, true);
      await events.pong("0");
      await events.pong("1");
      const whole = Buffer.concat(pieces);
      await events.data(type === "text" ? whole.toString() : whole, "echo of a fragmented message");
    }
    ws.close(1000, "bye");
    await events.closed(1000);
    return agreed(ws);
  },

  async subprotocol({ url, offered }) {
    const ws = new WebSocket(url, offered);
    const events = new Events(ws);
    ws.on("open", () => events.put({ type: "open" }));
    const first = await events.any("open");
    if (first.type !== "open") {
      // ws insists that a server picks one of those offered, and ends the connection.
      equal(first.data, "Server sent no subprotocol", "error");
      await events.closed(1006);
      return null;
    }
    ws.send("hello");
    await events.data("hello", "echo");
    ws.close(1000);
    await events.closed(1000);
    return ws.protocol || null;
  },

  async refused({ url, status, header }) {
    const ws = new WebSocket(url, { headers: Object.fromEntries(header) });
    const events = new Events(ws);
    equal((await events.next("error")).data, `Unexpected server response: ${status}`, "error");
    await events.closed(1006);
  },

  async distrust({ url }) {
    const ws = new WebSocket(url);
    const events = new Events(ws);
    const { error } = await events.next("error");
    if (!/UNABLE_TO|SELF_SIGNED/.test(error.code)) throw error;
    await events.closed(1006);
  },

  async many({ url, count }) {
    await Promise.all(Array.from({ length: count }, async (_, number) => {
      const [ws, events] = await connect(url);
      for (let turn = 0; turn < 10; turn++) ws.send(`${number} ${turn}`);
      for (let turn = 0; turn < 10; turn++) await events.data(`${number} ${turn}`, "echo");
      ws.close(1000);
      await events.closed(1000);
    }));
  },
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { tag, name, args } = JSON.parse(line);
    try {
      ok(tag, await scenarios[name](args));
    } catch (error) {
      failed(tag, error);
    }
  }
  process.exit(0);
}

process.on("uncaughtException", (error) => failed("node_client", error));
main();

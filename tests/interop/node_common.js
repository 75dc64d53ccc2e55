// What the scripts for Node's ws share: checks, samples, a WebSocket whose events are awaited one by one.
"use strict";

const crypto = require("crypto");

const MIB = 2 ** 20;
const WITHIN = 15000;
const SIZES = [0, 1, 124, 125, 126, 127, 65535, 65536, 65537, MIB];
const BAD_UTF8 = ["ff", "616263c3", "eda080", "c0af", "f4908080"].map((hex) => Buffer.from(hex, "hex"));

class Mismatch extends Error {}

function short(value) {
  const text = Buffer.isBuffer(value) ? `<${value.length} bytes ${value.toString("hex", 0, 60)}>` : JSON.stringify(value);
  return text !== undefined && text.length > 300 ? `${text.slice(0, 280)}... (${text.length})` : text;
}

function equal(got, want, what) {
  const same = Buffer.isBuffer(want)
    ? Buffer.isBuffer(got) && want.equals(got)
    : JSON.stringify(got) === JSON.stringify(want);
  if (!same) throw new Mismatch(`${what}: got ${short(got)}, expected ${short(want)}`);
}

function binary(size) {
  const data = Buffer.allocUnsafe(size);
  for (let i = 0; i < size; i++) data[i] = i % 251;
  return data;
}

function text(size) {
  if (!size) return "";
  const count = Math.floor((size - 1) / 4);
  const points = [];
  for (let i = 0; i < count; i++) points.push(String.fromCodePoint(0x1f600 + (i % 61)));
  return "a" + points.join("") + "z".repeat((size - 1) % 4);
}

function cuts(data, ...sizes) {
  const pieces = [];
  for (const size of sizes) {
    pieces.push(data.subarray(0, size));
    data = data.subarray(size);
  }
  return [...pieces, data];
}

const empty = Buffer.alloc(0);
const MESSAGES = [
  ["text", cuts(Buffer.from("aä€😀"), 1, 1, 1, 1, 1, 1, 1, 1, 1)],
  ["text", cuts(Buffer.from("😀😁😂"), 2, 0, 5, 0)],
  ["text", [empty, empty, empty]],
  ["binary", [empty, empty, empty]],
  ["binary", cuts(binary(MIB), 1, 65535, 65536, 65537, 300000)],
  ["text", cuts(Buffer.from(text(MIB)), 3, 65536, 65537, 125, 126)],
];

// Messages for a connection that compresses: those of samples.py.
function phases() {
  const alike = crypto.randomBytes(600).toString("base64");
  return [
    [0, 1, 125, 126, 65535, 65536, 65537].flatMap((size) => [text(size), binary(size)]),
    Array.from({ length: 40 }, (_, number) => `${String(number).padStart(5, "0")} ${alike}`),
    [1, 125, 126, 65536, 65537].map((size) => crypto.randomBytes(size)),
  ];
}

// Options of permessage-deflate, given by their names in RFC 7692; null for the library's own.
function deflateOptions(given) {
  if (!given) return true;
  return {
    threshold: 0,
    serverNoContextTakeover: given.server_no_context_takeover,
    clientNoContextTakeover: given.client_no_context_takeover,
    serverMaxWindowBits: given.server_max_window_bits,
    clientMaxWindowBits: given.client_max_window_bits,
  };
}

// What was negotiated: server_no_context_takeover, client_no_context_takeover, server_max_window_bits, client_max_window_bits.
function agreed(ws) {
  if (!ws.extensions) return null;
  equal(ws.extensions, "permessage-deflate", "extensions");
  const { params } = ws._extensions["permessage-deflate"];
  const bits = (name) => (typeof params[name] === "number" ? params[name] : 15);
  return [
    Boolean(params.server_no_context_takeover), Boolean(params.client_no_context_takeover),
    bits("server_max_window_bits"), bits("client_max_window_bits"),
  ];
}

// The events of a WebSocket, in order, to be awaited.
class Events {
  constructor(ws, { pings = false } = {}) {
    this.queue = [];
    this.waiting = null;
    ws.on("message", (data, isBinary) => this.put({ type: isBinary ? "binary" : "text", data: isBinary ? data : data.toString() }));
    ws.on("pong", (data) => this.put({ type: "pong", data: data.toString("hex") }));
    if (pings) ws.on("ping", (data) => this.put({ type: "ping", data: data.toString("hex") }));
    ws.on("close", (code, reason) => this.put({ type: "close", code, reason: reason.toString() }));
    ws.on("error", (error) => this.put({ type: "error", data: error.message, error }));
  }

  put(event) {
    this.queue.push(event);
    if (this.waiting) this.waiting();
  }

  async any(wanted) {
    if (!this.queue.length) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Mismatch(`no ${wanted} within ${WITHIN} ms`)), WITHIN);
        this.waiting = () => {
          clearTimeout(timer);
          this.waiting = null;
          resolve();
        };
      });
    }
    return this.queue.shift();
  }

  async next(type) {
    const event = await this.any(type);
    if (event.type !== type) throw new Mismatch(`${short(event)} came, not ${type}`);
    return event;
  }

  async data(want, what) {
    const type = Buffer.isBuffer(want) ? "binary" : "text";
    const event = await this.next(type);
    const same = type === "binary" ? want.equals(event.data) : want === event.data;
    if (!same) throw new Mismatch(`${what}: got ${short(event.data)}, expected ${short(want)}`);
  }

  async pong(want) {
    equal((await this.next("pong")).data, Buffer.from(want).toString("hex"), "pong");
  }

  async closed(code, reason) {
    const event = await this.next("close");
    equal(event.code, code, "close code");
    if (reason !== undefined && reason !== null) equal(event.reason, reason, "close reason");
  }
}

// Sends a fragmented message, with a ping behind each of its first two fragments if `pings`.
function sendFragments(ws, type, pieces, pings, compress = false) {
  pieces.forEach((piece, number) => {
    ws.send(piece, { binary: type === "binary", fin: number === pieces.length - 1, compress });
    if (pings && number < 2) ws.ping(`${number}`);
  });
}

function ok(tag, result) {
  process.stdout.write(`ok ${tag} ${JSON.stringify(result === undefined ? null : result)}\n`);
}

function failed(what, error) {
  require("fs").writeSync(1, `${what} failed:\n${error.stack}\n`);
  process.exit(1);
}

module.exports = {
  MIB, SIZES, BAD_UTF8, MESSAGES, Mismatch, Events, binary, text, phases, deflateOptions, agreed, equal, sendFragments, ok, failed,
};

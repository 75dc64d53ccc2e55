"use strict";

// A WebSocket whose events are awaited one by one.
class Socket {
  constructor(url, protocols) {
    this.events = [];
    this.wake = () => {};
    this.ws = new WebSocket(url, protocols);
    this.ws.binaryType = "arraybuffer";
    this.ws.onopen = () => this.put({ type: "open" });
    this.ws.onmessage = (event) => this.put({ type: "message", data: event.data });
    this.ws.onerror = () => this.put({ type: "error" });
    this.ws.onclose = ({ code, reason, wasClean }) => this.put({ type: "close", code, reason, wasClean });
  }

  put(event) {
    this.events.push(event);
    this.wake();
  }

  async next() {
    if (!this.events.length) await new Promise((resolve) => { this.wake = resolve; });
    return this.events.shift();
  }

  async expect(type) {
    const event = await this.next();
    if (event.type !== type) throw new Error(`${JSON.stringify(event)} came, not ${type}`);
    return event;
  }

  // The answer to a command.
  async ask(command) {
    this.ws.send(command);
    return JSON.parse((await this.expect("message")).data);
  }

  async echo(data) {
    this.ws.send(data);
    const got = (await this.expect("message")).data;
    if (!same(data, got)) throw new Error(`the echo of ${typeof data}, ${data.length} differs: ${typeof got}, ${got.length}`);
  }
}

function same(a, b) {
  if (typeof a === "string") return a === b;
  if (!(b instanceof ArrayBuffer)) return false;
  const bytes = new Uint8Array(b);
  return a.length === bytes.length && a.every((byte, at) => byte === bytes[at]);
}

function text(size) {
  if (!size) return "";
  let points = "a";
  for (let at = 0; at < Math.floor((size - 1) / 4); at++) points += String.fromCodePoint(0x1f600 + (at % 61));
  return points + "z".repeat((size - 1) % 4);
}

function binary(size) {
  return Uint8Array.from({ length: size }, (_, at) => at % 251);
}

function noise(size) {
  const data = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(data.subarray(at, at + 65536));
  return data;
}

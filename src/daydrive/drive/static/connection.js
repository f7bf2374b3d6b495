// The connection to the server: handshake, messages, and connecting again.

export const VERSION = 1;
const REJECTED = 4000;
const LONGEST_WAIT = 8000;

/**
 * Events: one per type of message of the server (detail: the message); `frame` and `preview` have `images`, blobs of
 * JPEGs; `lost` when the connection is gone (detail: whether it will be tried again).
 */
export class Connection extends EventTarget {
  #socket = null;
  #session;
  #wait = 500;

  constructor(session) {
    super();
    this.#session = session;
    this.#connect();
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  send(message) {
    if (this.open) this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    const socket = new WebSocket(new URL("drive", location.href.replace(/^http/, "ws")));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.send({ type: "hello", version: VERSION, session: this.#session });
    socket.onmessage = ({ data }) => this.#receive(typeof data === "string" ? JSON.parse(data) : unpack(data));
    socket.onclose = ({ code }) => this.#closed(code);
    this.#socket = socket;
  }

  #receive(message) {
    if (message.type === "welcome") {
      this.#session = message.session;
      this.#wait = 500;
    }
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }

  #closed(code) {
    const again = code !== REJECTED || this.#session !== null;
    this.dispatchEvent(new CustomEvent("lost", { detail: { again } }));
    if (!again) return;
    if (code === REJECTED) this.#session = null; // the session has been closed: start a new one
    setTimeout(() => this.#connect(), this.#wait);
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT);
  }
}

/** A binary message: the length of its JSON header, the header with `sizes`, and JPEGs of these sizes. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  const images = header.sizes.map((size) => {
    start += size;
    return new Blob([new Uint8Array(buffer, start - size, size)], { type: "image/jpeg" });
  });
  return { ...header, images };
}

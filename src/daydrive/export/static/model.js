// The world model in a worker, so that the page stays responsive while it computes.

export class WorldModel {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #asked = 0;

  constructor() {
    this.#worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (data.error === undefined) resolve(data.result);
      else reject(new Error(data.error));
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message));
      this.#waiting.clear();
    };
  }

  /** Load the model described by `about`, the contents of model.json. */
  load(about) {
    return this.#ask("load", { about });
  }

  /** Begin at a moment: context frames as ImageData, side by side, and the actions between them. */
  start(frames, actions) {
    return this.#ask("start", { frames, actions });
  }

  /** One step with an action, an array in the order of model.json → { frame: ImageData, milliseconds }. */
  step(action) {
    return this.#ask("step", { action });
  }

  #ask(kind, request) {
    const id = ++this.#asked;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, kind, ...request });
    });
  }
}

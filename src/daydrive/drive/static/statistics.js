// Honest figures: what this page measures, over its most recent frames and key presses.

const RATE_SECONDS = 3;
const LATENCIES = 200;

/** The value below which a share of the values lies (nearest rank); null without values. */
export function percentile(values, share) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

export class Statistics {
  dropped = 0;
  modelMilliseconds = [];
  #arrivals = [];
  #lastFrame = null;
  #lastStep = null;
  #keys = new Map(); // sequence number of an action → time of its key event
  #latencies = [];

  /** Remember the time of the key event that an action was sent for. */
  keyPressed(sequence, time) {
    this.#keys.set(sequence, time);
  }

  /** Count a frame that has arrived. */
  arrived({ frame, step, model_ms: milliseconds }, time) {
    if (this.#lastFrame !== null && frame > this.#lastFrame + 1) this.dropped += frame - this.#lastFrame - 1;
    if (step !== this.#lastStep) this.#arrivals.push(time);
    [this.#lastFrame, this.#lastStep] = [frame, step];
    this.modelMilliseconds = milliseconds;
  }

  /** Measure the latency of all keys whose action is part of a frame that is visible from now on. */
  shown(sequence, time) {
    for (const [key, pressed] of this.#keys) {
      if (key > sequence) break;
      this.#keys.delete(key);
      this.#latencies.push(time - pressed);
    }
    if (this.#latencies.length > LATENCIES) this.#latencies.splice(0, this.#latencies.length - LATENCIES);
  }

  /** Forget keys whose frames will not come, as in a pause. */
  forgetKeys() {
    this.#keys.clear();
  }

  /** Frames per second over the last seconds. */
  rate(time) {
    while (this.#arrivals.length && time - this.#arrivals[0] > 1000 * RATE_SECONDS) this.#arrivals.shift();
    return this.#arrivals.length / RATE_SECONDS;
  }

  /** Key-to-image latencies in milliseconds: count, median and 95th percentile. */
  latency() {
    const found = this.#latencies;
    return { count: found.length, p50: percentile(found, 0.5), p95: percentile(found, 0.95) };
  }
}

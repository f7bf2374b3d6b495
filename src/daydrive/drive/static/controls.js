// A driver's input: keys, gamepad and touch become steering, throttle, brake and gear.
//
// Used by the window of `daydrive drive` and by exported pages. Keys move wheel and pedals gradually; sticks, triggers
// and the touch pad move them directly.

import { approach, STILL } from "./easing.js";

const DRIVING_KEYS = {
  KeyW: "forward", ArrowUp: "forward", KeyS: "back", ArrowDown: "back",
  KeyA: "left", ArrowLeft: "left", KeyD: "right", ArrowRight: "right", Space: "brake",
};
const COMMAND_KEYS = {
  Enter: "reset", ".": "pause", e: "step", r: "record", m: "mode", p: "policy", v: "preview", c: "reference", x: "difference",
  n: "seed", g: "ghost", "-": "slower", "+": "faster", "=": "faster", "?": "help", 1: "left", 2: "right", 0: "equal",
};
const WHEEL_FREQUENCY = 10;
const PEDAL_FREQUENCY = 16;
const DEAD_ZONE = 0.08;

/**
 * Events: `input` when a key, button or pad changes (detail: its timeStamp); `command` for other keys (detail: name and
 * whether the key went down).
 *
 * standing: whether the car stands, set by the owner; braking while standing engages reverse.
 */
export class Controls extends EventTarget {
  standing = false;
  #held = new Set();
  #pad = null; // steering by touch, -1 to 1
  #wheel = STILL;
  #throttle = STILL;
  #brake = STILL;
  #gear = 1;
  #time = null;

  constructor(root = document) {
    super();
    root.addEventListener("keydown", (event) => this.#key(event, true));
    root.addEventListener("keyup", (event) => this.#key(event, false));
    addEventListener("blur", () => this.release());
    for (const element of root.querySelectorAll("[data-control]")) this.#listenToTouch(element);
  }

  /** Let go of everything, and centre the wheel. */
  reset() {
    this.release();
    this.#wheel = this.#throttle = this.#brake = STILL;
    this.#gear = 1;
  }

  /** Let go of all keys and buttons; wheel and pedals return gradually. */
  release() {
    this.#held.clear();
    this.#pad = null;
  }

  /**
   * The action at a time in milliseconds. ahead: seconds by which wheel and pedals are predicted, so that a frame that
   * shows the end of an interval gets their mean position within it.
   */
  sample(milliseconds, ahead = 0) {
    const seconds = this.#time === null ? 0 : Math.min(0.25, Math.max(0, (milliseconds - this.#time) / 1000));
    this.#time = milliseconds;
    const target = this.#target();
    const move = (span) => {
      const wheel = target.analog
        ? { position: target.steering, velocity: 0 }
        : approach(this.#wheel, target.steering, WHEEL_FREQUENCY, span);
      const throttle = approach(this.#throttle, target.throttle, PEDAL_FREQUENCY, span);
      const brake = approach(this.#brake, target.brake, PEDAL_FREQUENCY, span);
      return [wheel, throttle, brake];
    };
    [this.#wheel, this.#throttle, this.#brake] = move(seconds);
    const [wheel, throttle, brake] = move(ahead).map(({ position }) => position);
    return {
      steering: clamp(wheel, -1, 1), throttle: clamp(throttle, 0, 1), brake: clamp(brake, 0, 1), gear: this.#gear,
    };
  }

  /** Where wheel and pedals are moving to; changes the gear at a standstill. */
  #target() {
    const pad = firstGamepad();
    const forward = Math.max(this.#held.has("forward") ? 1 : 0, pad?.throttle ?? 0);
    const back = Math.max(this.#held.has("back") ? 1 : 0, pad?.brake ?? 0);
    if (this.standing && back > 0 && forward === 0) this.#gear = -1;
    if (this.standing && forward > 0) this.#gear = 1;
    const [drive, slow] = this.#gear > 0 ? [forward, back] : [back, forward];
    const steering = pad?.steering ?? this.#pad ?? (this.#held.has("right") ? 1 : 0) - (this.#held.has("left") ? 1 : 0);
    return {
      steering,
      throttle: drive,
      brake: this.#held.has("brake") ? 1 : slow,
      analog: Boolean(pad?.steering) || this.#pad !== null,
    };
  }

  #key(event, down) {
    if (event.ctrlKey || event.metaKey || event.altKey || isForElement(event)) return;
    const driving = DRIVING_KEYS[event.code];
    const command = COMMAND_KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!driving && !command) return;
    event.preventDefault();
    if (event.repeat) return;
    if (driving) this.#hold(driving, down, event.timeStamp);
    else this.dispatchEvent(new CustomEvent("command", { detail: { name: command, down } }));
  }

  #hold(name, down, time) {
    if (down === this.#held.has(name)) return;
    if (down) this.#held.add(name);
    else this.#held.delete(name);
    this.dispatchEvent(new CustomEvent("input", { detail: { time, down } }));
  }

  #listenToTouch(element) {
    const name = element.dataset.control;
    const steer = (event) => {
      const { left, width } = element.getBoundingClientRect();
      this.#pad = clamp((event.clientX - left - width / 2) / (0.4 * width), -1, 1);
    };
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      if (name !== "steer") return this.#hold(name, true, event.timeStamp);
      steer(event);
      this.dispatchEvent(new CustomEvent("input", { detail: { time: event.timeStamp, down: true } }));
    });
    element.addEventListener("pointermove", (event) => {
      if (name === "steer" && element.hasPointerCapture(event.pointerId)) steer(event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => {
        if (name !== "steer") return this.#hold(name, false, event.timeStamp);
        this.#pad = null;
        this.dispatchEvent(new CustomEvent("input", { detail: { time: event.timeStamp, down: false } }));
      });
    }
    element.addEventListener("contextmenu", (event) => event.preventDefault());
  }
}

/** Stick and triggers of the first gamepad that is being used; null for none. */
function firstGamepad() {
  for (const pad of navigator.getGamepads?.() ?? []) {
    if (!pad?.connected) continue;
    const stick = Math.abs(pad.axes[0] ?? 0) > DEAD_ZONE ? pad.axes[0] : 0;
    const [brake, throttle] = [6, 7].map((index) => pad.buttons[index]?.value ?? 0);
    if (stick || brake || throttle) return { steering: stick || undefined, throttle, brake };
  }
  return null;
}

/** Whether a key belongs to the element that has the focus: a slider, a button, an open dialog. */
function isForElement(event) {
  const element = event.target instanceof Element ? event.target : null;
  if (element?.closest("input, select, textarea, dialog")) return true;
  return Boolean(element?.closest("button, a, summary")) && ["Enter", " "].includes(event.key);
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

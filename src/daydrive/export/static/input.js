// The driver's input from keys and touch, as actions that change as smoothly as a wheel and pedals do.

const STEER_RATE = 2.2; // full locks per second towards a held key
const RETURN_RATE = 3.0; // and back to the middle
const PEDAL_RATE = 4.0;
const REVERSE_AFTER = 1.5; // seconds of braking with S after which it reverses

const DRIVING = new Map([
  ["KeyW", "throttle"], ["ArrowUp", "throttle"],
  ["KeyS", "brake"], ["ArrowDown", "brake"],
  ["KeyA", "left"], ["ArrowLeft", "left"],
  ["KeyD", "right"], ["ArrowRight", "right"],
  ["Space", "stop"],
]);
const COMMANDS = new Map([["enter", "reset"], [".", "pause"], ["e", "step"]]);

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const approach = (value, target, change) => value + clamp(target - value, -change, change);

export class DriverInput {
  /**
   * surface: the element whose left half steers and whose right half is the pedals when touched.
   * onCommand: called with "reset", "pause" or "step".
   */
  constructor(surface, onCommand) {
    this.held = new Set();
    this.touches = new Map();
    this.braking = 0;
    this.action = { steering: 0, throttle: 0, brake: 0, gear: 1 };
    addEventListener("keydown", (event) => this.#keyDown(event, onCommand));
    addEventListener("keyup", (event) => this.held.delete(DRIVING.get(event.code)));
    addEventListener("blur", () => this.release());
    surface.addEventListener("pointerdown", (event) => this.#touchDown(event, surface));
    surface.addEventListener("pointermove", (event) => this.#touchMove(event, surface));
    for (const end of ["pointerup", "pointercancel"]) {
      surface.addEventListener(end, (event) => this.touches.delete(event.pointerId));
    }
  }

  /** Let go of everything. */
  release() {
    this.held.clear();
    this.touches.clear();
    this.braking = 0;
    this.action = { steering: 0, throttle: 0, brake: 0, gear: 1 };
  }

  /** The action after `seconds` more: steering [-1, 1], positive to the right; throttle, brake [0, 1]; gear -1 or 1. */
  read(seconds) {
    const target = this.#target();
    const back = this.held.has("brake");
    this.braking = back ? this.braking + seconds : 0;
    const reverse = this.braking > REVERSE_AFTER || (back && this.action.gear < 0);
    if (reverse) {
      target.throttle = 1;
      target.brake = this.held.has("stop") ? 1 : 0;
    }
    const before = this.action;
    const rate = target.steering === 0 ? RETURN_RATE : STEER_RATE;
    this.action = {
      steering: target.direct ? target.steering : approach(before.steering, target.steering, rate * seconds),
      throttle: approach(before.throttle, target.throttle, PEDAL_RATE * seconds),
      brake: approach(before.brake, target.brake, PEDAL_RATE * seconds),
      gear: reverse ? -1 : target.throttle > 0 || before.gear > 0 ? 1 : before.gear,
    };
    return { ...this.action };
  }

  #target() {
    const held = (name) => (this.held.has(name) ? 1 : 0);
    const target = {
      steering: held("right") - held("left"),
      throttle: held("throttle"),
      brake: Math.max(held("brake"), held("stop")),
      direct: false,
    };
    for (const touch of this.touches.values()) {
      if (touch.steers) {
        target.steering = touch.value;
        target.direct = true;
      } else {
        target.throttle = Math.max(target.throttle, touch.value);
        target.brake = Math.max(target.brake, -touch.value);
      }
    }
    return target;
  }

  #keyDown(event, onCommand) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const command = COMMANDS.get(event.key.toLowerCase());
    const onButton = event.target instanceof HTMLButtonElement && ["Enter", "Space"].includes(event.code);
    if (onButton) return;
    if (DRIVING.has(event.code)) {
      this.held.add(DRIVING.get(event.code));
    } else if (command !== undefined && (command === "step" || !event.repeat)) {
      onCommand(command);
    } else {
      return;
    }
    event.preventDefault();
  }

  #touchDown(event, surface) {
    const box = surface.getBoundingClientRect();
    surface.setPointerCapture(event.pointerId);
    const steers = event.clientX < box.left + box.width / 2;
    this.touches.set(event.pointerId, { steers, x: event.clientX, y: event.clientY, value: 0 });
  }

  #touchMove(event, surface) {
    const touch = this.touches.get(event.pointerId);
    if (touch === undefined) return;
    const reach = surface.getBoundingClientRect().width / 4;
    const moved = touch.steers ? event.clientX - touch.x : touch.y - event.clientY;
    touch.value = clamp(moved / reach, -1, 1);
  }
}

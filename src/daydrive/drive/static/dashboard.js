// Steering wheel, pedals and gear, with the recorded driver's as a ghost.

const LOCK_DEGREES = 120;
const GEARS = { "-1": "R", 0: "N", 1: "D" };

export class Dashboard {
  #part;

  /** root: the element with the parts of index.html. */
  constructor(root) {
    this.#part = (name) => root.querySelector(`[data-part="${name}"]`);
  }

  /** action: steering, throttle, brake and gear. */
  show({ steering, throttle, brake, gear }) {
    turn(this.#part("wheel"), steering);
    fill(this.#part("throttle"), throttle);
    fill(this.#part("brake"), brake);
    this.#part("gear").textContent = GEARS[gear];
    this.#part("summary").textContent =
      `steering ${Math.round(100 * steering)} %, throttle ${Math.round(100 * throttle)} %, brake ${Math.round(100 * brake)} %`;
  }

  /** action: steering, throttle, brake, gear of the recorded driver, or null. */
  showGhost(action) {
    for (const name of ["ghost-wheel", "ghost-throttle", "ghost-brake"]) this.#part(name).toggleAttribute("hidden", !action);
    if (!action) return;
    turn(this.#part("ghost-wheel"), action[0]);
    this.#part("ghost-throttle").setAttribute("y", String(100 - 100 * action[1]));
    this.#part("ghost-brake").setAttribute("y", String(100 - 100 * action[2]));
  }

  /** metresPerSecond: null if unknown. */
  showSpeed(metresPerSecond) {
    this.#part("speed").textContent = metresPerSecond === null ? "" : `${Math.round(3.6 * metresPerSecond)} km/h`;
  }
}

function turn(element, steering) {
  element.setAttribute("transform", `rotate(${(LOCK_DEGREES * steering).toFixed(1)})`);
}

function fill(element, value) {
  element.setAttribute("y", (100 - 100 * value).toFixed(1));
  element.setAttribute("height", (100 * value).toFixed(1));
}

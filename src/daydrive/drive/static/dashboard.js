// Steering wheel, pedals and gear, with the recorded driver's as a ghost.

const LOCK_DEGREES = 120;
const GEARS = { "-1": "R", 0: "N", 1: "D" };

const pedal = (name, control, label) => `
    <button type="button" data-control="${control}" aria-label="${label}" tabindex="-1">
      <svg viewBox="0 0 34 100" preserveAspectRatio="none" aria-hidden="true"><rect width="34" height="100" class="slot"/>
        <rect data-part="${name}" width="34" y="100" height="0" class="${name}"/>
        <rect data-part="ghost-${name}" class="ghost-line" width="34" height="2" y="100" hidden/></svg>
      <span>${name}</span>
    </button>`;

const MARKUP = `
  <div id="steer" data-control="steer" title="Drag to steer">
    <svg viewBox="-60 -60 120 120" aria-hidden="true">
      <g data-part="wheel" class="wheel"><circle r="48"/><path d="M-48 0H48M0 0V48"/><circle r="9" class="hub"/>
        <path d="M0 -53V-43" class="top"/></g>
      <g data-part="ghost-wheel" class="ghost" hidden><circle r="36"/><path d="M-36 0H36M0 0V36M0 -41V-31"/></g>
    </svg>
  </div>
  <div id="pedals">
    ${pedal("brake", "back", "Brake, then reverse")}
    ${pedal("throttle", "forward", "Throttle")}
    <p id="gear-box"><strong data-part="gear">D</strong> <span data-part="speed"></span></p>
  </div>
  <p class="visually-hidden" data-part="summary"></p>
`;

export class Dashboard {
  #part;

  /** root: an empty element. Its wheel and pedals have the attribute data-control for `Controls`. */
  constructor(root) {
    root.innerHTML = MARKUP;
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

// The slider that returns to an earlier moment of the drive.

const KEPT = 620;

/** Events: `look` while the slider moves (detail: the JPEG of that step, or null), `rewind` at its end (detail: step). */
export class Timeline extends EventTarget {
  #slider;
  #label;
  #frames = new Map();
  #hz = 10;
  #moving = false;

  constructor(slider, label) {
    super();
    [this.#slider, this.#label] = [slider, label];
    slider.addEventListener("input", () => {
      this.#moving = true;
      this.#describe();
      this.dispatchEvent(new CustomEvent("look", { detail: this.#frames.get(slider.valueAsNumber) ?? null }));
    });
    slider.addEventListener("change", () => {
      this.#moving = false;
      this.dispatchEvent(new CustomEvent("rewind", { detail: slider.valueAsNumber }));
    });
  }

  /** Whether a person is choosing a step. */
  get moving() {
    return this.#moving;
  }

  /** Add the newest frame; later ones are forgotten. hz: steps per second. */
  add(step, earliest, jpeg, hz) {
    this.#hz = hz;
    for (const other of this.#frames.keys()) if (other > step || other < step - KEPT) this.#frames.delete(other);
    this.#frames.set(step, jpeg);
    if (this.#moving) return;
    Object.assign(this.#slider, { min: earliest, max: step, disabled: step === 0 });
    this.#slider.value = step;
    this.#describe();
  }

  #describe() {
    const step = this.#slider.valueAsNumber;
    const text = `${(step / this.#hz).toFixed(1)} s`;
    this.#label.textContent = text;
    this.#slider.setAttribute("aria-valuetext", text);
  }
}

// PSNR of a model to the true simulator over the steps of a drive.

const [LOW, HIGH] = [10, 40];
const SHOWN = 300;

export class PsnrChart {
  #canvas;
  #values = new Map();

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** values: in dB, one per model; later steps are forgotten. */
  add(step, values) {
    for (const other of this.#values.keys()) if (other > step || other < step - SHOWN) this.#values.delete(other);
    if (values.length) this.#values.set(step, values);
    this.#draw(step);
  }

  #draw(newest) {
    const { width, height } = this.#canvas;
    const pen = this.#canvas.getContext("2d");
    const style = getComputedStyle(this.#canvas);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px sans-serif";
    const y = (value) => height - ((Math.min(HIGH, Math.max(LOW, value)) - LOW) / (HIGH - LOW)) * height;
    pen.fillStyle = style.getPropertyValue("--faint");
    pen.strokeStyle = style.getPropertyValue("--line");
    for (const value of [20, 30]) {
      pen.beginPath();
      pen.moveTo(0, y(value));
      pen.lineTo(width, y(value));
      pen.stroke();
      pen.fillText(`${value} dB`, 2, y(value) - 3);
    }
    const first = Math.max(0, newest - SHOWN);
    const models = Math.max(0, ...[...this.#values.values()].map((values) => values.length));
    for (let model = 0; model < models; model++) {
      pen.strokeStyle = style.getPropertyValue(model ? "--brake" : "--throttle");
      pen.lineWidth = 2;
      pen.beginPath();
      for (const [step, values] of this.#values) pen.lineTo(((step - first) / SHOWN) * width, y(values[model]));
      pen.stroke();
    }
    pen.lineWidth = 1;
  }
}

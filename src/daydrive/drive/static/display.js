// Drawing small images large: repeated smooth doubling, so that no pixel grid is visible.

const LARGEST = 1280;

/** A canvas that fills the width of its parent. */
export class Display {
  #canvas;
  #scratch = [document.createElement("canvas"), document.createElement("canvas")];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** source: an image; pixelAspect: width / height of its pixels. */
  draw(source, pixelAspect = 1) {
    const canvas = this.#canvas;
    const ratio = (source.width * pixelAspect) / source.height;
    canvas.style.aspectRatio = String(ratio);
    const width = Math.min(LARGEST, Math.round(canvas.clientWidth * devicePixelRatio) || source.width);
    const height = Math.max(1, Math.round(width / ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    let [image, w, h] = [source, source.width, source.height];
    for (let k = 0; 2 * w < width && 2 * h < height; k++) {
      const next = this.#scratch[k % 2];
      [w, h] = [2 * w, 2 * h];
      if (next.width !== w || next.height !== h) Object.assign(next, { width: w, height: h });
      paint(next, image, w, h);
      image = next;
    }
    paint(canvas, image, width, height);
  }

  clear() {
    this.#canvas.getContext("2d").clearRect(0, 0, this.#canvas.width, this.#canvas.height);
  }
}

/** The absolute difference of two images of one size, twice as bright. */
export function difference(a, b, canvas) {
  Object.assign(canvas, { width: a.width, height: a.height });
  const pen = canvas.getContext("2d");
  pen.drawImage(a, 0, 0);
  pen.globalCompositeOperation = "difference";
  pen.drawImage(b, 0, 0, a.width, a.height);
  pen.globalCompositeOperation = "lighter";
  pen.drawImage(canvas, 0, 0);
  return canvas;
}

function paint(canvas, image, width, height) {
  const pen = canvas.getContext("2d", { alpha: false });
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, 0, 0, width, height);
}

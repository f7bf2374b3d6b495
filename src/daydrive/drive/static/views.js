// The images of the drive: one per simulator, and their difference.

import { Display, difference } from "./display.js";

export class Views {
  #root;
  #figures = [];
  #difference = document.createElement("canvas");
  pixelAspect = 1;
  showDifference = false;

  constructor(root) {
    this.#root = root;
  }

  /** images: bitmaps, one per view of the frame. */
  draw(images, views) {
    const names = views.map(({ name }) => name);
    const compared = this.showDifference && images.length > 1;
    this.#layOut(compared ? [...names, "difference"] : names);
    images.forEach((image, k) => this.#figures[k].display.draw(image, this.pixelAspect));
    if (compared) {
      const last = difference(images[0], images[images.length - 1], this.#difference);
      this.#figures[images.length].display.draw(last, this.pixelAspect);
    }
  }

  #layOut(names) {
    while (this.#figures.length > names.length) this.#figures.pop().figure.remove();
    while (this.#figures.length < names.length) {
      const figure = document.createElement("figure");
      const canvas = Object.assign(document.createElement("canvas"), { role: "img" });
      const caption = document.createElement("figcaption");
      figure.append(canvas, caption);
      this.#root.append(figure);
      this.#figures.push({ figure, canvas, caption, display: new Display(canvas) });
    }
    names.forEach((name, k) => {
      this.#figures[k].caption.textContent = name;
      this.#figures[k].canvas.ariaLabel = name;
    });
  }
}

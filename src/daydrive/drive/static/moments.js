// Start moments as thumbnails.

/** Events: `choose` (detail: the moment's index). */
export class MomentList extends EventTarget {
  #root;
  #buttons = [];

  constructor(root) {
    super();
    this.#root = root;
  }

  /** moments: names and images, null where an image is not known yet. ratio: width / height. */
  set(moments, ratio) {
    this.#root.style.setProperty("--ratio", ratio);
    this.#buttons = moments.map(({ name, image }, index) => {
      const button = Object.assign(document.createElement("button"), { type: "button", title: name, ariaLabel: name });
      button.addEventListener("click", () => this.dispatchEvent(new CustomEvent("choose", { detail: index })));
      button.append(Object.assign(document.createElement("img"), { alt: "" }));
      if (image) button.firstChild.src = image;
      return button;
    });
    this.#root.replaceChildren(...this.#buttons);
  }

  setImage(index, image) {
    this.#buttons[index].firstChild.src = image;
  }

  /** Mark the moment that is being driven. */
  mark(index) {
    this.#buttons.forEach((button, k) => (button.ariaPressed = String(k === index)));
  }
}

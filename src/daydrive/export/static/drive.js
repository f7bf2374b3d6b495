// The page: loads the model, steps it at the rate of its training data, draws its frames and the driver's input.

import { Controls } from "./controls.js";
import { Dashboard } from "./dashboard.js";
import { WorldModel } from "./model.js";
import { MomentList } from "./moments.js";
import { Statistics } from "./statistics.js";
import { Views } from "./views.js";

const element = (id) => document.getElementById(id);
const model = new WorldModel();
const dashboard = new Dashboard(element("dashboard"));
const controls = new Controls();
const views = new Views(element("views"));
const moments = new MomentList(element("thumbnails"));
let statistics = new Statistics();

/** The page's state; also read by tests. */
const drive = { ready: false, paused: false, frames: 0, start: 0, action: null, error: null };
window.drive = drive;

let about;
let starts;
let before = null; // the previous frame's pixels
let busy = Promise.resolve(); // requests to the model, one at a time
let loops = 0; // started; only the newest goes on

const commands = {
  reset: () => begin(drive.start),
  pause: () => {
    drive.paused = !drive.paused;
    document.querySelector('[data-command="pause"]').ariaPressed = String(drive.paused);
    if (!drive.paused) schedule();
  },
  step: () => {
    if (!drive.paused) commands.pause();
    return step();
  },
};

function say(text) {
  element("status").textContent = text;
}

function fail(error) {
  drive.error = error.message;
  say(`This page cannot run the model: ${error.message}`);
}

/** Requests wait for earlier ones. */
function queue(request) {
  busy = busy.then(request).catch(fail);
  return busy;
}

async function open({ image, actions }) {
  const response = await fetch(image);
  if (!response.ok) throw new Error(`${image} cannot be loaded (${response.status})`);
  const bitmap = await createImageBitmap(await response.blob(), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { frames: context.getImageData(0, 0, bitmap.width, bitmap.height), actions };
}

/** The last context frame. */
function newest({ frames }) {
  const [height, width] = about.image_size;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").putImageData(frames, width - frames.width, 0);
  return canvas;
}

function begin(index) {
  drive.start = index;
  controls.reset();
  moments.mark(index);
  return queue(async () => {
    await model.start(starts[index].frames, starts[index].actions);
    drive.frames = 0;
    before = null;
    draw(newest(starts[index]));
  });
}

function step() {
  return queue(async () => {
    const action = controls.sample(performance.now(), 0.5 / about.hz);
    const { frame, milliseconds } = await model.step(about.actions.map(({ name }) => action[name]));
    const canvas = new OffscreenCanvas(frame.width, frame.height);
    canvas.getContext("2d").putImageData(frame, 0, 0);
    draw(canvas);
    dashboard.show(action);
    controls.standing = before !== null && change(before, frame.data) < about.standing_change;
    before = frame.data;
    drive.action = action;
    drive.frames += 1;
    statistics.arrived({ frame: drive.frames, step: drive.frames, model_ms: [milliseconds] }, performance.now());
  });
}

function draw(image) {
  views.draw([image], [{ name: "model" }]);
}

/** The mean absolute difference of two images in RGBA. */
function change(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += Math.abs(a[k] - b[k]); // alpha does not change
  return sum / (0.75 * a.length);
}

/** Steps at the rate of the training data, or as fast as the model can. */
async function schedule() {
  const loop = ++loops;
  const period = 1000 / about.hz;
  let due = performance.now();
  while (loop === loops && !drive.paused && drive.error === null) {
    await step();
    const now = performance.now();
    due = Math.max(due + period, now);
    await new Promise((resolve) => setTimeout(resolve, due - now));
  }
}

function showFigures() {
  if (!drive.frames) return;
  element("model-ms").textContent = `${statistics.modelMilliseconds[0].toFixed(1)} ms`;
  element("rate").textContent = statistics.rate(performance.now()).toFixed(1);
}

function listen() {
  controls.addEventListener("command", ({ detail: { name, down } }) => {
    if (down) commands[name]?.();
  });
  for (const button of document.querySelectorAll("[data-command]")) {
    button.addEventListener("click", (event) => {
      commands[button.dataset.command]();
      if (event.detail > 0) button.blur(); // after a mouse click, Space and Enter drive again
    });
  }
  moments.addEventListener("choose", ({ detail: index }) => {
    document.activeElement.blur();
    statistics = new Statistics();
    begin(index);
  });
  setInterval(showFigures, 500);
}

async function main() {
  const response = await fetch("model.json");
  if (!response.ok) throw new Error(`model.json cannot be loaded (${response.status})`);
  about = await response.json();
  const [height, width] = about.image_size;
  element("about").textContent =
    `${about.name}: ${width} x ${height} pixels at ${about.hz} frames per second, weights in ${about.precision}`;
  views.pixelAspect = about.pixel_aspect;
  [starts] = await Promise.all([Promise.all(about.starts.map(open)), model.load(about)]);
  const images = starts.map((start, index) => ({ name: `Moment ${index + 1}`, image: newest(start).toDataURL() }));
  moments.set(images, (width * about.pixel_aspect) / height);
  listen();
  await begin(0);
  say("");
  drive.ready = drive.error === null;
  schedule();
}

/** Afterwards, so that the files come from the browser's cache. */
function keepOffline() {
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("offline.js").catch(() => {});
}

main().then(keepOffline, fail);

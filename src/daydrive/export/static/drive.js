// The page: loads the model, steps it at the rate of its training data, draws its frames and the driver's input.

import { DriverInput } from "./input.js";
import { WorldModel } from "./model.js";

const WHEEL_DEGREES = 120; // of the drawn wheel at full lock
const SMOOTHING = 0.1; // weight of the newest value in the figures shown

const element = (id) => document.getElementById(id);
const view = element("view");
const model = new WorldModel();
const input = new DriverInput(view, (name) => commands[name]());

/** The page's state; also read by tests. */
const drive = { ready: false, paused: false, frames: 0, milliseconds: 0, fps: 0, start: 0, action: null, error: null };
window.drive = drive;

let about;
let starts;
let busy = Promise.resolve(); // requests to the model, one at a time
let loops = 0; // started; only the newest goes on

const commands = {
  reset: () => begin(drive.start),
  pause: () => {
    drive.paused = !drive.paused;
    element("pause").textContent = drive.paused ? "Continue" : "Pause";
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
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(frames, width - frames.width, 0);
  return canvas;
}

function begin(index) {
  drive.start = index;
  input.release();
  for (const [k, button] of [...element("starts").children].entries()) {
    button.setAttribute("aria-pressed", String(k === index));
  }
  return queue(async () => {
    await model.start(starts[index].frames, starts[index].actions);
    drive.frames = 0;
    draw(newest(starts[index]));
  });
}

function step() {
  return queue(async () => {
    const action = input.read(1 / about.hz);
    const { frame, milliseconds } = await model.step(about.actions.map(({ name }) => action[name]));
    const canvas = new OffscreenCanvas(frame.width, frame.height);
    canvas.getContext("2d").putImageData(frame, 0, 0);
    draw(canvas);
    show(action);
    drive.action = action;
    drive.milliseconds += (drive.frames ? SMOOTHING : 1) * (milliseconds - drive.milliseconds);
    drive.frames += 1;
  });
}

function draw(canvas) {
  const context = view.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, view.width, view.height);
}

function show({ steering, throttle, brake, gear }) {
  element("wheel").style.transform = `rotate(${WHEEL_DEGREES * steering}deg)`;
  element("throttle").style.transform = `scaleY(${throttle})`;
  element("brake").style.transform = `scaleY(${brake})`;
  element("gear").textContent = gear < 0 ? "R" : "D";
}

/** Steps at the rate of the training data, or as fast as the model can. */
async function schedule() {
  const loop = ++loops;
  const period = 1000 / about.hz;
  let due = performance.now();
  let last = due;
  while (loop === loops && !drive.paused && drive.error === null) {
    await step();
    const now = performance.now();
    drive.fps += (drive.fps ? SMOOTHING : 1) * (1000 / Math.max(1, now - last) - drive.fps);
    last = now;
    element("figures").textContent =
      `${drive.fps.toFixed(1)} frames per second, ${drive.milliseconds.toFixed(0)} ms of them in the model per frame`;
    due = Math.max(due + period, now);
    await new Promise((resolve) => setTimeout(resolve, due - now));
  }
}

function addStarts() {
  for (const [index, start] of starts.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Moment ${index + 1}`);
    const frame = newest(start);
    const thumbnail = document.createElement("canvas");
    [thumbnail.width, thumbnail.height] = [frame.width, frame.height];
    thumbnail.style.aspectRatio = String((frame.width * about.pixel_aspect) / frame.height);
    thumbnail.getContext("2d").drawImage(frame, 0, 0);
    button.append(thumbnail);
    button.addEventListener("click", () => begin(index).then(() => view.focus({ preventScroll: true })));
    element("starts").append(button);
  }
}

async function main() {
  const response = await fetch("model.json");
  if (!response.ok) throw new Error(`model.json cannot be loaded (${response.status})`);
  about = await response.json();
  const [height, width] = about.image_size;
  element("about").textContent =
    `${about.name}: ${width} x ${height} pixels at ${about.hz} frames per second, weights in ${about.precision}`;
  view.height = Math.round((view.width * height) / (width * about.pixel_aspect));
  [starts] = await Promise.all([Promise.all(about.starts.map(open)), model.load(about)]);
  addStarts();
  for (const name of ["pause", "step", "reset"]) element(name).addEventListener("click", commands[name]);
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

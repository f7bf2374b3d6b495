// Runs the exported graphs with onnxruntime-web: images as float32 planes in [-1, 1] inside, as RGBA pixels outside.

import * as ort from "./onnxruntime-web.js";

let about;
let init;
let stepper;
let state;

async function bytes(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  return new Uint8Array(await response.arrayBuffer());
}

async function load(request) {
  about = request.about;
  const names = ["ort-wasm-simd-threaded.wasm", about.weights, about.init, about.step];
  const [runtime, weights, initGraph, stepGraph] = await Promise.all(names.map(bytes));
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // several need headers that static hosts do not send
  ort.env.wasm.wasmBinary = runtime.buffer;
  const options = { executionProviders: ["wasm"], externalData: [{ path: about.weights, data: weights }] };
  init = await ort.InferenceSession.create(initGraph, options);
  stepper = await ort.InferenceSession.create(stepGraph, options);
}

async function start({ frames, actions }) {
  const [height, width] = about.image_size;
  const count = about.context_frames;
  const planes = new Float32Array(count * 3 * height * width);
  for (let frame = 0, k = 0; frame < count; frame++) {
    for (let channel = 0; channel < 3; channel++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++, k++) {
          planes[k] = frames.data[4 * (y * frames.width + frame * width + x) + channel] / 127.5 - 1;
        }
      }
    }
  }
  const between = Float32Array.from(actions.flat());
  const found = await init.run({
    images: new ort.Tensor("float32", planes, [1, count, 3, height, width]),
    actions: new ort.Tensor("float32", between, [1, count - 1, about.actions.length]),
  });
  state = Object.fromEntries(about.state.map(({ name }) => [name, found[name]]));
}

async function step({ action }) {
  const began = performance.now();
  const values = new ort.Tensor("float32", Float32Array.from(action), [1, action.length]);
  const found = await stepper.run({ action: values, ...state });
  state = Object.fromEntries(about.state.map(({ name, next }) => [name, found[next]]));
  return { frame: pixels(found.frame.data), milliseconds: performance.now() - began };
}

function pixels(planes) {
  const [height, width] = about.image_size;
  const size = height * width;
  const image = new ImageData(width, height);
  for (let k = 0; k < size; k++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * k + channel] = 127.5 * (planes[channel * size + k] + 1); // rounds and clamps
    }
    image.data[4 * k + 3] = 255;
  }
  return image;
}

const answers = { load, start, step };

onmessage = async ({ data }) => {
  try {
    postMessage({ id: data.id, result: await answers[data.kind](data) });
  } catch (error) {
    postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};

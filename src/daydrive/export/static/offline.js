// A service worker: the network first, and what was loaded before without one. Only on https and localhost.

const CACHE = "daydrive";
const PAGE = [
  "./", "style.css", "controls.js", "dashboard.js", "display.js", "drive.js", "easing.js", "model.js", "moments.js",
  "statistics.js", "views.js", "worker.js",
];

addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(fillCache());
});
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});

/** The page and all files of the model that it names. */
async function fillCache() {
  const about = await (await fetch("model.json")).json();
  const files = [about.step, about.init, about.weights, ...about.starts.map(({ image }) => image)];
  const cache = await caches.open(CACHE);
  await cache.addAll([...PAGE, "model.json", "onnxruntime-web.js", "ort-wasm-simd-threaded.wasm", ...files]);
}

async function answer(request) {
  try {
    const response = await fetch(request);
    if (response.ok) (await caches.open(CACHE)).put(request, response.clone());
    return response;
  } catch (error) {
    const cached = await caches.match(request);
    if (cached) return cached;
    throw error;
  }
}

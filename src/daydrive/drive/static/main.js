// The window: connects input, server and display.

import { PsnrChart } from "./chart.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { Dashboard } from "./dashboard.js";
import { Display } from "./display.js";
import { MomentList } from "./moments.js";
import { Statistics } from "./statistics.js";
import { Timeline } from "./timeline.js";
import { Views } from "./views.js";

const SEND_INTERVAL = 40; // milliseconds between actions while wheel or pedals move
const SMALLEST_CHANGE = 0.004;
const PACES = [0.1, 0.25, 0.5, 1];

const get = (id) => document.getElementById(id);
const address = new URL(location.href);
const connection = new Connection(address.searchParams.get("session"));
const dashboard = new Dashboard(get("dashboard"));
const controls = new Controls();
const views = new Views(get("views"));
const timeline = new Timeline(get("slider"), get("slider-time"));
const moments = new MomentList(get("thumbnails"));
const chart = new PsnrChart(get("psnr-chart"));
const previews = [...get("preview").querySelectorAll("canvas")].map((canvas) => new Display(canvas));
let statistics = new Statistics();
let welcome = null;
let status = { paused: true, driving: false };
let newest = null; // the newest frame's header
let sequence = 0;
let sent = { time: 0, action: null };
let ghost = true;
let received = 0;

// Actions

function sendAction(time, key) {
  const ahead = 0.5 / ((welcome?.hz ?? 10) * (status.pace ?? 1));
  const action = controls.sample(time, ahead);
  const values = ["steering", "throttle", "brake"];
  const changed = !sent.action || sent.action.gear !== action.gear
    || values.some((name) => Math.abs(sent.action[name] - action[name]) > SMALLEST_CHANGE);
  if (!status.driving || !(key || (changed && time - sent.time >= SEND_INTERVAL))) return action;
  sequence += 1;
  connection.send({ type: "action", sequence, ...action, key });
  sent = { time, action };
  return action;
}

controls.addEventListener("input", ({ detail: { time, down } }) => {
  if (!status.driving) return;
  if (status.mode !== "human" && down) connection.send({ type: "mode", mode: "human" });
  if (status.paused && down) connection.send({ type: "pause", on: false });
  sendAction(performance.now(), true);
  if (!status.paused) statistics.keyPressed(sequence, time);
});

function animate(time) {
  const action = sendAction(time, false);
  if (status.driving && status.mode === "human") dashboard.show(action);
  requestAnimationFrame(animate);
}
requestAnimationFrame(animate);

// Frames

connection.addEventListener("frame", async ({ detail: frame }) => {
  statistics.arrived(frame, performance.now());
  const number = ++received;
  const images = await Promise.all(frame.images.map((image) => createImageBitmap(image)));
  if (number < received) return; // a newer frame has come meanwhile
  newest = frame;
  timeline.add(frame.step, frame.earliest, frame.images[0], welcome.hz);
  if (!timeline.moving) views.draw(images, frame.views);
  controls.standing = frame.standing;
  if (!status.driving || status.mode !== "human") {
    const [steering, throttle, brake, gear] = frame.action;
    dashboard.show({ steering, throttle, brake, gear });
  }
  dashboard.showGhost(ghost ? frame.recorded : null);
  dashboard.showSpeed(frame.speed);
  chart.add(frame.step, frame.psnr);
  get("psnr").textContent = frame.psnr.map((value) => value.toFixed(1)).join(", ") + " dB";
  for (const id of ["psnr-figure", "psnr-chart"]) get(id).hidden = !frame.psnr.length;
  document.body.dataset.step = frame.step;
  requestAnimationFrame(() => frame.viewer === welcome.viewer && statistics.shown(frame.sequence, performance.now()));
});

connection.addEventListener("preview", async ({ detail: { images } }) => {
  const drawn = await Promise.all(images.map((image) => createImageBitmap(image)));
  get("preview").hidden = !status.preview;
  drawn.forEach((image, k) => previews[k].draw(image, views.pixelAspect));
});

timeline.addEventListener("look", async ({ detail: jpeg }) => {
  if (!status.paused) connection.send({ type: "pause", on: true });
  if (jpeg && newest) views.draw([await createImageBitmap(jpeg)], newest.views.slice(0, 1));
});
timeline.addEventListener("rewind", ({ detail: step }) => connection.send({ type: "rewind", step }));

setInterval(() => {
  const { p50, p95 } = statistics.latency();
  const milliseconds = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(0)} ms`);
  get("model-ms").textContent = statistics.modelMilliseconds.map((value) => value.toFixed(1)).join(" + ") + " ms";
  get("rate").textContent = statistics.rate(performance.now()).toFixed(1);
  get("latency-p50").textContent = milliseconds(p50);
  get("latency-p95").textContent = milliseconds(p95);
  get("dropped").textContent = statistics.dropped;
}, 500);

// Commands

const COMMANDS = {
  pause: () => connection.send({ type: "pause", on: !status.paused }),
  step: () => connection.send({ type: "step" }),
  reset: () => restart(null),
  record: () => connection.send({ type: "record", on: !status.recording }),
  mode: () => switchMode("recorded"),
  policy: () => switchMode("policy"),
  preview: () => connection.send({ type: "preview", on: !status.preview }),
  reference: () => connection.send({ type: "reference", on: !status.reference }),
  seed: () => connection.send({ type: "seed", seed: null }),
  slower: () => setPace(-1),
  faster: () => setPace(1),
  help: () => get("help").showModal(),
  left: () => choose("left"),
  right: () => choose("right"),
  equal: () => choose("equal"),
  ghost: () => {
    ghost = !ghost;
    press("ghost", ghost);
    dashboard.showGhost(ghost ? newest?.recorded ?? null : null);
  },
  difference: () => {
    views.showDifference = !views.showDifference;
    press("difference", views.showDifference);
  },
};

function restart(moment) {
  controls.reset();
  connection.send({ type: "reset", moment });
}

function setPace(direction) {
  const index = PACES.indexOf(status.pace) + direction;
  if (index in PACES) connection.send({ type: "pace", factor: PACES[index] });
}

function choose(choice) {
  if (!welcome?.blind) return;
  controls.reset();
  connection.send({ type: "choose", choice });
}

function press(command, on) {
  document.querySelector(`[data-command="${command}"]`).ariaPressed = String(Boolean(on));
}

controls.addEventListener("command", ({ detail: { name, down } }) => {
  if (name === "preview") connection.send({ type: "preview", on: down });
  else if (down) COMMANDS[name]();
});
for (const button of document.querySelectorAll("[data-command]")) {
  button.addEventListener("click", (event) => {
    COMMANDS[button.dataset.command]();
    if (event.detail > 0) button.blur(); // after a mouse click, Space and Enter drive again
  });
}
for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => choose(button.dataset.choice));
}
moments.addEventListener("choose", ({ detail: index }) => restart(index));
get("pace").addEventListener("change", ({ target }) => {
  connection.send({ type: "pace", factor: Number(target.value) });
  target.blur();
});
get("take-wheel").addEventListener("click", () => connection.send({ type: "wheel" }));
get("help-button").addEventListener("click", COMMANDS.help);
get("reveal").addEventListener("click", () => connection.send({ type: "reveal" }));
document.addEventListener("visibilitychange", () => {
  if (document.hidden && status.driving && !status.paused) connection.send({ type: "pause", on: true });
});

// Messages

connection.addEventListener("welcome", ({ detail }) => {
  welcome = detail;
  statistics = new Statistics();
  sent = { time: 0, action: null };
  views.pixelAspect = welcome.pixel_aspect;
  const [height, width] = welcome.image_size;
  moments.set(welcome.moments, (width * welcome.pixel_aspect) / height);
  get("blind").hidden = !welcome.blind;
  document.querySelector('[data-command="policy"]').hidden = !welcome.policy;
  address.searchParams.set("session", welcome.session);
  history.replaceState(null, "", address);
});
connection.addEventListener("thumbnail", ({ detail: { moment, image } }) => moments.setImage(moment, image));
connection.addEventListener("status", ({ detail }) => {
  status = detail;
  if (status.paused) statistics.forgetKeys();
  for (const name of ["recording", "reference", "preview"]) press(name === "recording" ? "record" : name, status[name]);
  press("pause", status.paused);
  press("mode", status.mode === "recorded");
  press("policy", status.mode === "policy");
  moments.mark(status.moment);
  get("preview").hidden = true;
  get("take-wheel").hidden = status.driving;
  get("hint").hidden = !status.paused || !status.driving || Number(document.body.dataset.step) > 0;
  get("pace").value = String(status.pace);
  document.querySelector('[data-command="reference"]').disabled = !status.can_compare || welcome.blind;
  get("rounds").textContent = `${status.rounds ?? 0} choices`;
  say(status.notice || describe(status));
});
connection.addEventListener("recorded", ({ detail: { frames, files } }) => say(`${frames} frames recorded: ${files.join(", ")}`));
connection.addEventListener("error", ({ detail: { message } }) => say(message));
connection.addEventListener("results", ({ detail: results }) => {
  const names = results.models.map(({ name }, k) => `${name}: ${results.preferred[k]}`);
  say(`preferred: ${names.join(", ")}, equal: ${results.equal}; p = ${results.p_value}`);
});
connection.addEventListener("lost", ({ detail: { again } }) => {
  status = { ...status, driving: false };
  if (again) say("connection lost; trying again…");
});

const DRIVERS = { human: "you drive", recorded: "the recorded driver drives", policy: "the policy drives" };

function switchMode(mode) {
  connection.send({ type: "mode", mode: status.mode === mode ? "human" : mode });
}

function describe({ driving, paused, mode, recording, viewers, pace }) {
  const parts = [driving ? DRIVERS[mode] : "another viewer drives"];
  if (paused) parts.push("paused");
  if (recording) parts.push("recording");
  if (pace < 1) parts.push(`${pace} of real time`);
  if (viewers > 1) parts.push(`${viewers} viewers`);
  return parts.join(", ");
}

function say(text) {
  get("status").textContent = text;
}

// The page: what is pressed, dragged and dropped, and what is shown for it.

import { encodeWav, Player, save } from "./audio.js";
import { move, random, sample } from "./latent.js";
import { Menu } from "./menu.js";
import { Model } from "./model.js";
import { drawSpectrogram, drawWaveform } from "./picture.js";
import { Sequencer, STEPS } from "./sequencer.js";

const DEFAULT_MODEL = "model/synthesize.f32.tflite";
const ROWS = { first: 4, most: 8 };
const UNDO = 100; // changes that can be undone
const RETRIGGER = 200; // ms between two sounds while the pad is dragged

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const rng = random(query.has("seed") ? Number(query.get("seed")) : Math.random() * 2 ** 32);

const model = new Model();
const menu = new Menu($("models"));
const player = new Player();
const sequencer = new Sequencer(player);
let way; // {from, right, up}: latents that the pad moves through
let place = { x: 0, y: 0 }; // of the pad's dot, each in [-1, 1]
let sound; // what the pad has made: {z, audio, spectrogram, ms}
let saved = 0; // WAV files

/** For the browser's console, and tests. */
export const page = {
  model,
  sequencer,
  get sound() {
    return sound;
  },
  show,
};

// Messages

function say(message) {
  $("message").textContent = message;
  $("message").hidden = !message;
}

const SILENT =
  "No sound comes out. Browsers keep a page silent until it is clicked: click Play. If " +
  "that does not help, there is no audio device, or it is in use; Save WAV works anyway.";

player.onsilence = (silent) => {
  if (silent) say(SILENT);
  else if ($("message").textContent === SILENT) say("");
};
for (const type of ["pointerup", "keyup"]) {
  document.addEventListener(type, () => player.wake());
}

/** A handler that says what went wrong in it. */
function guarded(handler) {
  return async (event) => {
    try {
      say("");
      await handler(event);
    } catch (error) {
      say(error.message);
    }
  };
}

function on(id, event, handler) {
  $(id).addEventListener(event, guarded(handler));
}

// Models

const kept = new Map(); // URL -> content of a model on the menu, once it was chosen

async function fetched(url) {
  const name = url.split("/").at(-1);
  const content = kept.get(url) ?? (await download(url));
  if (menu.has(url)) kept.set(url, content);
  // The worker takes what it is given away from this page.
  return { name, content: menu.has(url) ? content.slice(0) : content };
}

async function download(url) {
  const hint =
    "Put what export.py writes into the folder model/ beside this page, or open a " +
    ".tflite file here.";
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error(
      `${url} could not be loaded: this page takes models from its own server only, ` +
        "and that has to be running. Or open a .tflite file here.",
    );
  }
  if (!response.ok) throw new Error(`No model at ${url} (${response.status}). ${hint}`);
  return response.arrayBuffer();
}

let loading = Promise.resolve(); // the model that was chosen last
let choices = 0; // models that were chosen so far

/** Load what `read` returns, after the models that were chosen before.
 *
 * @param {string[]} sources URLs, or names of files
 * @param {function(): Promise} read
 */
function use(sources, read) {
  const number = ++choices;
  // If not, the menu shows a later choice. It stays there: arrow keys go on from it.
  const isLast = () => number === choices;
  const loaded = loading.then(() => replaceModel(sources, read, isLast));
  loading = loaded.catch(() => {});
  return loaded;
}

function useUrls(urls) {
  return use(urls, () => Promise.all(urls.map(fetched)));
}

async function replaceModel(sources, read, isLast) {
  const status = $("about").textContent;
  $("about").textContent = "Loading\u2026";
  document.body.setAttribute("aria-busy", "true");
  enable(false);
  try {
    await model.load(await read());
    menu.show(sources, isLast());
    forget();
    turn();
    await show();
    await fillRows();
  } catch (error) {
    if (isLast()) menu.restore();
    $("about").textContent = model.latentDim ? status : "No model yet";
    throw error;
  } finally {
    document.body.removeAttribute("aria-busy");
    enable(model.latentDim > 0);
  }
  $("about").textContent = description();
}

function enable(yes) {
  $("controls").disabled = $("controls").inert = !yes;
}

function description() {
  const { step, parameters, sample_rate } = model.about;
  const parts = [];
  if (step !== undefined) parts.push(`${step.toLocaleString("en")} steps of training`);
  if (parameters) parts.push(`${(parameters / 1e6).toFixed(1)} M parameters`);
  parts.push(`${model.latentDim} latents`, `${model.sampleRate / 1000} kHz`);
  if (!sample_rate) parts.push("rate not in the file, so assumed");
  return parts.join(" \u00b7 ");
}

// Undo

const UNDOS = document.querySelectorAll(".undo");
let history = []; // states before each change: {way, place, tempo, rows}

/** Call before any change, with the state that Undo is to restore. */
function remember() {
  const rows = sequencer.rows.map((row) => ({ ...row, steps: [...row.steps] }));
  history = [...history, { way, place, tempo: sequencer.tempo, rows }].slice(-UNDO);
  offerUndo();
}

function forget() {
  history = [];
  offerUndo();
}

function offerUndo() {
  for (const button of UNDOS) button.disabled = !history.length;
}

async function undo() {
  if (!history.length) return;
  const { way: from, place: at, tempo, rows } = history.pop();
  offerUndo();
  const moved = from !== way || at.x !== place.x || at.y !== place.y;
  way = from;
  put(at.x, at.y);
  $("tempo").value = tempo;
  setTempo();
  sequencer.rows = rows;
  drawRows();
  if (moved) await show(!sequencer.playing);
}

/** A slider's handler that remembers the state before the first of its moves. */
function sliding(input, handler) {
  let moving = false;
  input.addEventListener("input", () => {
    if (!moving) remember();
    moving = true;
    handler();
  });
  input.addEventListener("change", () => (moving = false));
}

// The sound and the pad

/** Two new directions from where the dot is, which becomes the middle. */
function turn(from = sample(model.latentDim, rng)) {
  const [right, up] = [sample(model.latentDim, rng), sample(model.latentDim, rng)];
  way = { from, right, up };
  put(0, 0);
}

function put(x, y) {
  const within = (v) => Math.max(-1, Math.min(1, v));
  place = { x: within(x), y: within(y) };
  $("dot").style.left = `${50 + 50 * place.x}%`;
  $("dot").style.top = `${50 - 50 * place.y}%`;
  $("place").textContent = `${place.x.toFixed(2)}, ${place.y.toFixed(2)}`;
}

let wish; // {loud}: that the sound under the dot be made
let loudPlace; // where the last one to be heard was wished
let showing; // while sounds are made

/** Make and draw the sound under the dot; of many wishes meanwhile, the last. */
function show(loud = false) {
  wish = { loud: loud || wish?.loud };
  if (loud) loudPlace = place;
  showing ??= (async () => {
    try {
      while (wish) {
        const { loud } = wish;
        wish = undefined;
        sound = await model.synthesize(move(way, place.x, place.y));
        draw();
        if (loud) play();
      }
    } finally {
      showing = undefined;
    }
  })();
  return showing;
}

function draw() {
  if (!sound) return;
  drawSpectrogram($("spectrogram"), sound.spectrogram);
  drawWaveform($("waveform"), sound.audio);
  $("top").textContent = `${model.sampleRate / 2000} kHz`;
  $("end").textContent = `${(sound.audio.length / model.sampleRate).toFixed(2)} s`;
  $("took").textContent = `made in ${Math.round(sound.ms)} ms`;
}

let played = 0; // when, in ms

function play() {
  player.play(sound.audio, model.sampleRate);
  played = performance.now();
}

on("play", "click", play);
on("fresh", "click", () => {
  remember();
  turn();
  return show(true);
});
on("turn", "click", () => {
  remember();
  turn(move(way, place.x, place.y)); // sounds the same, for now
});
on("save", "click", () => {
  save(encodeWav(sound.audio, model.sampleRate), `specgan-${++saved}.wav`);
});

const drag = guarded((event) => {
  const { left, top, width, height } = $("pad").getBoundingClientRect();
  const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height];
  put(2 * x - 1, 1 - 2 * y);
  return show(event.type === "pointerdown" || performance.now() - played > RETRIGGER);
});
$("pad").addEventListener("pointerdown", (event) => {
  $("pad").setPointerCapture(event.pointerId);
  remember();
  drag(event);
});
$("pad").addEventListener("pointermove", (event) => {
  if ($("pad").hasPointerCapture(event.pointerId)) drag(event);
});
on("pad", "lostpointercapture", () => {
  if (place !== loudPlace) return show(true); // where it has come to rest
});

const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};
on("pad", "keydown", (event) => {
  if (!(event.key in ARROWS)) return;
  event.preventDefault();
  remember();
  const [dx, dy] = ARROWS[event.key].map((d) => d * (event.shiftKey ? 0.25 : 0.05));
  put(place.x + dx, place.y + dy);
  return show(true);
});

// The sequencer

/** Sounds of this model in every row; patterns stay. */
async function fillRows() {
  const patterns = sequencer.rows;
  sequencer.rows = [];
  for (let i = 0; i < (patterns.length || ROWS.first); i++) {
    const row = sequencer.add(await freshSound());
    const { steps, level } = patterns[i] ?? row;
    Object.assign(row, { steps, level });
  }
  drawRows();
}

/** Every row anew; what had the focus keeps it. */
function drawRows() {
  const parts = () => [...$("rows").querySelectorAll("button, input")];
  const focused = parts().indexOf(document.activeElement);
  $("rows").replaceChildren(...sequencer.rows.map(rowElement));
  label();
  if (focused >= 0) (parts()[focused] ?? $("add")).focus();
}

function freshSound() {
  return model.synthesize(sample(model.latentDim, rng));
}

function rowElement(row) {
  const element = $("row").content.firstElementChild.cloneNode(true);
  const part = (name) => element.querySelector(name);
  const click = (name, handler) => part(name).addEventListener("click", guarded(handler));
  const become = (made) => {
    Object.assign(row, made);
    drawSpectrogram(part("canvas"), row.spectrogram);
  };
  const hear = () => player.play(row.audio, model.sampleRate);
  click(".hear", hear);
  click(".renew", async () => {
    const made = await freshSound();
    if (!sequencer.rows.includes(row)) return; // undone, or removed, meanwhile
    remember();
    become(made);
    if (!sequencer.playing) hear();
  });
  click(".take", () => {
    remember();
    become(sound);
  });
  click(".remove", () => {
    remember();
    sequencer.rows.splice(sequencer.rows.indexOf(row), 1);
    element.remove();
    label();
    $("add").focus();
  });
  const level = part(".level input");
  level.value = row.level;
  sliding(level, () => (row.level = level.valueAsNumber));
  for (let step = 0; step < STEPS; step++) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.step = step;
    button.tabIndex = step ? -1 : 0;
    button.setAttribute("aria-pressed", row.steps[step]);
    button.addEventListener("click", () => {
      remember();
      row.steps[step] = !row.steps[step];
      button.setAttribute("aria-pressed", row.steps[step]);
    });
    part(".steps").append(button);
  }
  become({});
  return element;
}

/** Rows by their numbers, as they are read out. */
function label() {
  [...$("rows").children].forEach((element, i) => {
    const name = `row ${i + 1}`;
    element.setAttribute("aria-label", `Row ${i + 1}`);
    const names = { hear: "Play", renew: "New sound in", take: "Use pad in" };
    for (const [part, does] of Object.entries({ ...names, remove: "Remove" })) {
      element.querySelector(`.${part}`).setAttribute("aria-label", `${does} ${name}`);
    }
    element.querySelector(".unseen").textContent = `Level of ${name}`;
    element.querySelectorAll("[data-step]").forEach((button, step) => {
      button.setAttribute("aria-label", `Row ${i + 1}, step ${step + 1}`);
    });
  });
  $("add").disabled = sequencer.rows.length >= ROWS.most;
  $("save-loop").disabled = $("run").disabled = !sequencer.rows.length;
  if (!sequencer.rows.length && sequencer.playing) run();
}

// Arrow keys between steps, of which one a row is reached with Tab.
$("rows").addEventListener("keydown", (event) => {
  const { step } = event.target.dataset;
  if (step === undefined) return;
  const moves = Object.fromEntries(
    Object.entries(ARROWS).map(([key, [dx, dy]]) => [key, [Number(step) + dx, -dy]]),
  );
  const [to, down] = { ...moves, Home: [0, 0], End: [STEPS - 1, 0] }[event.key] ?? [];
  if (to === undefined) return;
  event.preventDefault();
  const rows = [...$("rows").children];
  const row = rows[rows.indexOf(event.target.closest(".row")) + down];
  const next = row?.querySelector(`[data-step="${(to + STEPS) % STEPS}"]`);
  if (!next) return;
  row.querySelector('[data-step][tabindex="0"]').tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

function run() {
  if (sequencer.playing) sequencer.stop();
  else sequencer.play(model.sampleRate);
  $("run").textContent = sequencer.playing ? "Stop" : "Start";
  $("run").classList.toggle("running", sequencer.playing);
  follow();
}

/** The column that is heard, lit up. */
function follow() {
  const { step } = sequencer;
  document.querySelectorAll("[data-step]").forEach((button) => {
    button.classList.toggle("now", Number(button.dataset.step) === step);
  });
  if (sequencer.playing) requestAnimationFrame(follow);
}

function setTempo() {
  sequencer.tempo = $("tempo").valueAsNumber;
  $("bpm").textContent = `${sequencer.tempo} BPM`;
}

on("run", "click", run);
sliding($("tempo"), setTempo);
for (const button of UNDOS) button.addEventListener("click", guarded(undo));
document.addEventListener("keydown", (event) => {
  if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
  event.preventDefault();
  guarded(undo)();
});
on("add", "click", () => {
  remember();
  const row = sequencer.add(sound);
  $("rows").append(rowElement(row));
  label();
});
on("save-loop", "click", () => {
  const wav = encodeWav(sequencer.loop(model.sampleRate), model.sampleRate);
  save(wav, `specgan-loop-${sequencer.tempo}bpm.wav`);
});

// Models from the menu, and files, picked or dropped anywhere

menu.onchoice = guarded((url) => useUrls([url]));

function useFiles(list) {
  const files = [...list];
  const read = async (file) => {
    return { name: file.name, content: await file.arrayBuffer() };
  };
  const names = files.map(({ name }) => name);
  return files.length ? use(names, () => Promise.all(files.map(read))) : undefined;
}

on("files", "change", async (event) => {
  const { files } = event.target;
  try {
    await useFiles(files);
  } finally {
    event.target.value = ""; // the same file can be chosen again
  }
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", type === "dragover");
  });
}
document.addEventListener(
  "drop",
  guarded((event) => useFiles(event.dataTransfer.files)),
);

// Begin

$("late").remove();
setTempo();
new ResizeObserver(draw).observe($("waveform"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
guarded(async () => {
  await menu.load();
  const asked = query.getAll("model").map((name) => menu.url(name));
  await useUrls(asked.length ? asked : [menu.first ?? DEFAULT_MODEL]);
})();

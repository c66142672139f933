// LiteRT, beside the page: a large model takes tenths of a second, in which the page
// has to draw and the sequencer to play. A classic worker, as LiteRT's loader wants.
//
// In:  {id, load: [{name, content: ArrayBuffer}, ...]}, {id, z: Float32Array, ngl}
// Out: {id, result} or {id, error}

const vendor = new URL("vendor/", self.location.href).href;
let litert;
let models = [];

const jobs = {
  /** Compile files in place of those before, which stay where it fails: {latentDim}. */
  async load({ load }) {
    litert ??= await start().catch((error) => {
      throw new Error(
        `LiteRT does not start here (${error.message ?? error}). The page needs ` +
          "WebAssembly with SIMD, and the folder vendor/ beside it.",
      );
    });
    const compiled = [];
    let run;
    try {
      for (const file of load) compiled.push(await compile(file));
      run = signatures(compiled);
      refuse(run, load.map(({ name }) => name).join(" and "));
    } catch (error) {
      compiled.forEach((model) => model.delete());
      throw error;
    }
    models.forEach((model) => model.delete());
    models = compiled;
    const { z } = byName((run.synthesize ?? run.generate).getInputDetails());
    return { result: { latentDim: z.shape.at(-1) } };
  },

  /** Latent -> {audio, spectrogram, ms}. */
  async synthesize({ z, ngl }) {
    const start = performance.now();
    const run = signatures(models);
    const steps = { data: new Int32Array([ngl]), shape: [] };
    const latent = { data: z, shape: [1, z.length] };
    let made;
    if (run.synthesize) {
      made = await call(run.synthesize, { z: latent, ngl: steps });
    } else {
      made = await call(run.generate, { z: latent });
      const { G_z_norm } = byName(run.invert.getInputDetails());
      const spectrogram = { data: made.G_z_norm, shape: Array.from(G_z_norm.shape) };
      const inputs = { G_z_norm: spectrogram, ngl: steps };
      made = { ...made, ...(await call(run.invert, inputs)) };
    }
    const ms = performance.now() - start;
    const result = { audio: made.G_z, spectrogram: made.G_z_norm, ms };
    return { result, transfer: [made.G_z.buffer, made.G_z_norm.buffer] };
  },
};

async function start() {
  self.Module = {
    // Workers have no script element from which the .wasm's place could be seen.
    locateFile: (file) => `${vendor}wasm/${file}`,
    // Its progress would stand in the console as errors.
    printErr: (line) => console[/^(INFO|WARNING)/.test(line) ? "debug" : "error"](line),
  };
  const module = await import(`${vendor}litert.js`);
  await module.loadLiteRt(`${vendor}wasm/`);
  return module;
}

async function compile({ name, content }) {
  try {
    const bytes = new Uint8Array(content);
    return await litert.loadAndCompile(bytes, { accelerator: "wasm" });
  } catch (error) {
    throw new Error(`${name} does not load: ${error.message ?? error}`);
  }
}

/** Of all of these models, by name. */
function signatures(of) {
  return Object.fromEntries(of.flatMap((model) => Object.entries(model.signatures)));
}

function byName(details) {
  return Object.fromEntries(details.map((detail) => [detail.name, detail]));
}

/** @throws {Error} these signatures do not make sound, and what would */
function refuse(run, names) {
  if (run.synthesize || (run.generate && run.invert)) return;
  if (run.generate) {
    throw new Error(
      `${names} makes spectrograms only: choose it together with invert.f32.tflite.`,
    );
  }
  if (run.invert) {
    throw new Error(
      `${names} needs spectrograms: choose it together with a generator.*.tflite.`,
    );
  }
  throw new Error(
    `${names} is no SpecGAN: choose what export.py writes, synthesize.f32.tflite.`,
  );
}

/** Arrays in, arrays out: LiteRT's tensors are not garbage collected. */
async function call(signature, inputs) {
  const tensors = {};
  let outputs = {};
  try {
    for (const [name, { data, shape }] of Object.entries(inputs)) {
      tensors[name] = new litert.Tensor(data, shape);
    }
    outputs = await signature.run(tensors);
    const arrays = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      arrays[name] = tensor.toTypedArray().slice();
    }
    return arrays;
  } finally {
    [...Object.values(tensors), ...Object.values(outputs)].forEach((t) => t.delete());
  }
}

let queue = Promise.resolve(); // one job at a time
self.onmessage = ({ data }) => {
  queue = queue.then(async () => {
    try {
      const job = data.load ? jobs.load : jobs.synthesize;
      const { result, transfer = [] } = await job(data);
      self.postMessage({ id: data.id, result }, transfer);
    } catch (error) {
      self.postMessage({ id: data.id, error: error?.message ?? String(error) });
    }
  });
};

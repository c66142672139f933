// A generator: files in, sounds out.

import { turnDown } from "./audio.js";
import { FileError, metadata } from "./tflite.js";

const DEFAULT_RATE = 16000; // Hz, train_specgan.py's default
const DEFAULT_NGL = 16; // Griffin-Lim's steps, too

/** One worker, with at most one set of models in it. */
export class Model {
  #worker;
  #waiting = new Map();
  #count = 0;
  #broken;

  /** What the files say of themselves: sample_rate, step, dim, ...; {} if nothing. */
  about = {};
  latentDim = 0;
  sampleRate = DEFAULT_RATE;
  ngl = DEFAULT_NGL;

  constructor() {
    this.#worker = new Worker(new URL("worker.js", import.meta.url));
    this.#worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.result);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#broken = new Error(event.message || "worker.js does not load");
      for (const { reject } of this.#waiting.values()) reject(this.#broken);
      this.#waiting.clear();
    };
  }

  #ask(message, transfer = []) {
    return new Promise((resolve, reject) => {
      if (this.#broken) throw this.#broken;
      const id = this.#count++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, transfer);
    });
  }

  /** Take files in place of those before: a synthesize, or a generator and an invert.
   *
   * @param {{name: string, content: ArrayBuffer}[]} files
   * @throws {Error} with a message for whoever chose them; the model before stays
   */
  async load(files) {
    const told = files.map(({ name, content }) => {
      try {
        return metadata(content);
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        throw new Error(`${name} ${error.message}.`);
      }
    });
    const said = told.map((about) => about?.moments_sha256).filter(Boolean);
    if (new Set(said).size > 1) {
      throw new Error("These files are of different trainings: choose a pair.");
    }
    const contents = files.map(({ content }) => content);
    const { latentDim } = await this.#ask({ load: files }, contents);
    this.about = told.find((about) => about?.latent_dim) ?? {};
    this.latentDim = latentDim;
    this.sampleRate = this.about.sample_rate ?? DEFAULT_RATE;
    this.ngl = this.about.ngl ?? DEFAULT_NGL;
  }

  /** The sound of a latent: {z, audio, spectrogram, ms}.
   *
   * audio: Float32Array, turned down where the model's exceeds 1; spectrogram:
   * Float32Array of [-1, 1], times by frequencies.
   */
  async synthesize(z) {
    const made = await this.#ask({ z, ngl: this.ngl });
    return { z, ...made, audio: turnDown(made.audio) };
  }
}

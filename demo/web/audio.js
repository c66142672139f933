// Sounds: played, mixed, and written as WAV.

/** A pattern as a loop of exactly `steps` steps.
 *
 * What rings on after the last step sounds at the loop's beginning, as it does when the
 * loop repeats. A sum above 1 is turned down.
 *
 * @param {{audio: Float32Array, level: number, steps: boolean[]}[]} rows
 * @param {number} stepLength samples, not necessarily whole
 * @returns {Float32Array} of round(steps * stepLength) samples
 */
export function mixLoop(rows, stepLength) {
  const loop = new Float32Array(Math.round(rows[0].steps.length * stepLength));
  for (const { audio, level, steps } of rows) {
    steps.forEach((on, step) => {
      if (!on) return;
      const start = Math.round(step * stepLength);
      for (let i = 0; i < audio.length; i++) {
        loop[(start + i) % loop.length] += level * audio[i];
      }
    });
  }
  return turnDown(loop);
}

/** A sound that exceeds 1 is scaled to a peak of 1, not clipped; others are as they were.
 *
 * @param {Float32Array} audio
 */
export function turnDown(audio) {
  const peak = audio.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return peak > 1 ? audio.map((x) => x / peak) : audio;
}

/** 16-bit samples, as `train_specgan.py generate` writes them: clipped to [-1, 1], then truncated. */
export function toInt16(audio) {
  return Int16Array.from(audio, (x) => {
    return Math.max(-32767, Math.min(32767, Math.fround(x * 32767)));
  });
}

/** A WAV file of one channel and 16 bits.
 *
 * @param {Float32Array} audio
 * @param {number} sampleRate Hz
 */
export function encodeWav(audio, sampleRate) {
  const samples = toInt16(audio);
  const file = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, s) => [...s].forEach((c, i) => file.setUint8(at + i, c.charCodeAt()));
  text(0, "RIFF");
  file.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  file.setUint32(16, 16, true); // bytes of what follows, up to "data"
  file.setUint16(20, 1, true); // PCM
  file.setUint16(22, 1, true); // channels
  file.setUint32(24, sampleRate, true);
  file.setUint32(28, 2 * sampleRate, true); // bytes a second
  file.setUint16(32, 2, true); // bytes a frame
  file.setUint16(34, 16, true); // bits a sample
  text(36, "data");
  file.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => file.setInt16(44 + 2 * i, sample, true));
  return new Blob([file], { type: "audio/wav" });
}

/** Offer a file for saving. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the download reads it
}

const PATIENCE = 1500; // ms that the audio clock may take to start

/** The loudspeaker. Browsers give it to pages that were clicked in, so: late. */
export class Player {
  /** Called with true when the clock does not start, with false when it does after all. */
  onsilence = () => {};
  #context;
  #stop;
  #waiting; // starts the last sound, which was to be played while the clock stood still
  #silent = false;
  #watching;

  get context() {
    if (!this.#context) {
      this.#context = new AudioContext();
      this.#context.addEventListener("statechange", () => this.#begin());
    }
    if (this.#context.state === "suspended") this.#context.resume();
    return this.#context;
  }

  /** Ask for sound once more: a click may have brought the right to it. */
  wake() {
    if (this.#context) this.context;
  }

  /** Tell `onsilence` if the clock stands still from now on. */
  watch() {
    const { context } = this;
    const [since, time] = [performance.now(), context.currentTime];
    const tell = (silent) => {
      this.#silent = silent;
      this.onsilence(silent);
    };
    if (this.#silent) tell(true); // the page may have said other things since
    clearInterval(this.#watching);
    this.#watching = setInterval(() => {
      if (context.currentTime > time) {
        clearInterval(this.#watching);
        if (this.#silent) tell(false);
      } else if (!this.#silent && performance.now() - since > PATIENCE) tell(true);
    }, 100);
  }

  #begin() {
    if (this.#context.state !== "running") return;
    const begin = this.#waiting;
    this.#waiting = undefined;
    begin?.();
  }

  /** Start a sound at a time of the context's clock. Returns how to stop it. */
  start(audio, sampleRate, { at = 0, level = 1, ended = () => {} } = {}) {
    const { context } = this;
    const buffer = context.createBuffer(1, audio.length, sampleRate);
    buffer.copyToChannel(audio, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    const gain = new GainNode(context, { gain: level });
    source.connect(gain).connect(context.destination);
    source.onended = ended;
    source.start(at);
    return () => {
      const now = context.currentTime;
      gain.gain.setTargetAtTime(0, now, 0.005); // seconds: cut off at once, it clicks
      source.stop(now + 0.03);
    };
  }

  /** Play a sound now, in place of the one that was played so before.
   *
   * While the clock stands still, sounds would pile up and be heard all at once: only the
   * last is kept.
   */
  play(audio, sampleRate) {
    this.#stop?.();
    this.#stop = undefined;
    this.#waiting = () => (this.#stop = this.start(audio, sampleRate));
    this.watch();
    this.#begin();
  }
}

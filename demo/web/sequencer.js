// Patterns, and when their steps sound.

import { mixLoop } from "./audio.js";

export const STEPS = 16; // four a beat
const PATTERNS = ["x...x...x...x...", "....x.......x..x", "x.x.x.x.x.x.x.x.", "...x..x...x....."];
const AHEAD = 0.1; // seconds that are handed to the audio clock at a time
const AHEAD_HIDDEN = 1.5; // a page in the background is woken once a second

/** Rows of one sound each, played step by step on a Player's clock. */
export class Sequencer {
  /** {z, audio, spectrogram, level, steps}, from top to bottom. */
  rows = [];
  tempo = 112; // beats a minute
  #player;
  #timer;
  #next; // {step, time} to be handed over
  #handed = []; // {step, time} that were, for whoever draws
  #stops = new Set(); // of what sounds, or will

  constructor(player) {
    this.#player = player;
  }

  /** A row, with one of four patterns to begin with. */
  add(sound) {
    const pattern = PATTERNS[this.rows.length % PATTERNS.length];
    const row = { ...sound, level: 0.7, steps: [...pattern].map((c) => c === "x") };
    this.rows.push(row);
    return row;
  }

  /** Seconds. */
  get stepTime() {
    return 60 / this.tempo / 4;
  }

  get playing() {
    return this.#timer !== undefined;
  }

  play(sampleRate) {
    const { context } = this.#player;
    this.#handed = [];
    this.#next = { step: 0, time: context.currentTime + 0.05 };
    const hand = () => {
      const ahead = document.hidden ? AHEAD_HIDDEN : AHEAD;
      const now = context.currentTime;
      if (this.#next.time < now) this.#next.time = now; // was held up: no burst
      while (this.#next.time < now + ahead) {
        this.#sound(this.#next, sampleRate);
        this.#handed = this.#handed.filter(({ time }) => time > now - 1);
        this.#handed.push({ ...this.#next });
        this.#next.time += this.stepTime;
        this.#next.step = (this.#next.step + 1) % STEPS;
      }
    };
    hand();
    this.#player.watch();
    this.#timer = setInterval(hand, 25);
  }

  #sound({ step, time }, sampleRate) {
    for (const { audio, level, steps } of this.rows) {
      if (!steps[step]) continue;
      const ended = () => this.#stops.delete(stop);
      const stop = this.#player.start(audio, sampleRate, { at: time, level, ended });
      this.#stops.add(stop);
    }
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stops.forEach((stop) => stop());
  }

  /** The step that is heard now, or -1. */
  get step() {
    if (!this.playing) return -1;
    const now = this.#player.context.currentTime;
    return this.#handed.findLast(({ time }) => time <= now)?.step ?? -1;
  }

  /** One round, as samples: steps times tempo, exactly. */
  loop(sampleRate) {
    return mixLoop(this.rows, this.stepTime * sampleRate);
  }
}

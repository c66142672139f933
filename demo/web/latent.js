// Ways through latent space, where the generator has known the cube [-1, 1]^n only.

/** Numbers in [0, 1): the same ones for the same seed (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A latent, uniform in the cube: as in training. */
export function sample(n, rng) {
  return Float32Array.from({ length: n }, () => 2 * rng() - 1);
}

/** `from` moved by `x` along `right` and `y` along `up`; reflected at the cube's walls. */
export function move({ from, right, up }, x, y) {
  return from.map((value, i) => reflect(value + x * right[i] + y * up[i]));
}

function reflect(v) {
  const period = (((v - 1) % 4) + 4) % 4; // [-1, 1] and back is 4 long
  return Math.abs(period - 2) - 1;
}

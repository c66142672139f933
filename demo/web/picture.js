// Spectrograms and waveforms on canvases.

// Magma, from silence to loud: as in specgan_tf/sheet.py.
const STOPS = [
  [0, 0, 4],
  [29, 17, 71],
  [81, 18, 124],
  [130, 38, 129],
  [182, 54, 121],
  [230, 81, 100],
  [251, 136, 97],
  [254, 194, 135],
  [252, 253, 191],
];
const BINS = 128;
const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (STOPS.length - 1);
  const [low, high] = [STOPS[Math.floor(place)], STOPS[Math.ceil(place)]];
  return low.map((c, k) => c + (high[k] - c) * (place % 1));
});

/** Time to the right, frequency upwards, a pixel a value.
 *
 * @param {Float32Array} spectrogram in [-1, 1]: times by BINS frequencies
 */
export function drawSpectrogram(canvas, spectrogram) {
  const width = (canvas.width = spectrogram.length / BINS);
  canvas.height = BINS;
  const image = new ImageData(width, BINS);
  spectrogram.forEach((value, i) => {
    const [time, frequency] = [Math.floor(i / BINS), i % BINS];
    const level = Math.max(0, Math.min(255, Math.round((value + 1) * 127.5)));
    const pixel = 4 * ((BINS - 1 - frequency) * width + time);
    image.data.set([...COLOURS[level], 255], pixel);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The extent of the waveform in each column, in the canvas' own text colour. */
export function drawWaveform(canvas, audio) {
  const scale = window.devicePixelRatio || 1;
  const width = (canvas.width = Math.round(canvas.clientWidth * scale));
  const height = (canvas.height = Math.round(canvas.clientHeight * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  const peak = audio.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
  for (let x = 0; x < width; x++) {
    const start = Math.floor((x * audio.length) / width);
    const end = Math.max(start + 1, Math.floor(((x + 1) * audio.length) / width));
    let [low, high] = [Infinity, -Infinity];
    for (let i = start; i < end; i++) {
      low = Math.min(low, audio[i]);
      high = Math.max(high, audio[i]);
    }
    const top = ((1 - high / peak) / 2) * height;
    context.fillRect(x, top, 1, Math.max(1, ((high - low) / peak / 2) * height));
  }
}

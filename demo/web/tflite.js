// What a .tflite file says of itself: the JSON that export.py puts into each.

const METADATA = "specgan"; // specgan_tf/export/tflite.py's name for it

/** A file is not what it should be. The message is for whoever chose it. */
export class FileError extends Error {}

/** The dict that export.py wrote into a file (sample_rate, ngl, step, ...), or null.
 *
 * @param {ArrayBuffer} content
 * @throws {FileError} not a TFLite file, or a damaged one
 */
export function metadata(content) {
  const view = new DataView(content);
  const magic = content.byteLength > 8 ? latin1(content, 4, 4) : "";
  if (magic !== "TFL3") throw new FileError("is not a .tflite file");
  try {
    return find(content, view);
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof SyntaxError)) throw error;
    throw new FileError("is a damaged .tflite file");
  }
}

// FlatBuffers: a table begins with the distance back to its vtable, which holds a field's
// place in it, or 0. Field numbers are those of TFLite's schema.fbs.
function find(content, view) {
  const at = (position) => position + view.getUint32(position, true);
  const field = (table, number) => {
    const vtable = table - view.getInt32(table, true);
    const entry = 4 + 2 * number;
    if (entry >= view.getUint16(vtable, true)) return 0;
    const place = view.getUint16(vtable + entry, true);
    return place && table + place;
  };
  const length = (vector) => view.getUint32(vector, true);
  const entry = (vector, i) => at(vector + 4 + 4 * i);
  const bytes = (buffer) => {
    const data = field(buffer, 0);
    return new Uint8Array(content, data && at(data) + 4, data && length(at(data)));
  };

  const model = at(0);
  const [buffers, entries] = [field(model, 4), field(model, 6)];
  for (let i = 0; i < length(at(buffers)); i++) bytes(entry(at(buffers), i)); // all there?
  if (!entries) return null;
  for (let i = 0; i < length(at(entries)); i++) {
    const about = entry(at(entries), i);
    const name = at(field(about, 0));
    if (latin1(content, name + 4, length(name)) !== METADATA) continue;
    const buffer = entry(at(buffers), view.getUint32(field(about, 1), true));
    return JSON.parse(new TextDecoder().decode(bytes(buffer)));
  }
  return null;
}

function latin1(content, from, count) {
  return String.fromCharCode(...new Uint8Array(content, from, Math.min(count, 99)));
}

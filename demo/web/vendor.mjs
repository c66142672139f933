// Put what the page needs of LiteRT.js beside it, into vendor/.
//
// Of the four WebAssembly builds two: with relaxed SIMD, and for browsers without it.
// The others want threads (two headers that a plain static server does not send) or
// WebGPU. Workers know no import map, so the one import by name becomes a path.

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";

const from = new URL("node_modules/@litertjs/", import.meta.url);
const to = new URL("vendor/", import.meta.url);
const name = '"@litertjs/wasm-utils"';

async function script(path) {
  const text = await readFile(new URL(path, from), "utf8");
  return text.replace(/^\/\/# sourceMappingURL.*$/m, ""); // the maps stay behind
}

const core = await script("core/dist/index.js");
if (core.split(name).length !== 2) {
  throw new Error(`@litertjs/core does not import ${name} once: another version?`);
}
await rm(to, { recursive: true, force: true });
await mkdir(new URL("wasm/", to), { recursive: true });
await writeFile(new URL("litert.js", to), core.replace(name, '"./wasm-utils.js"'));
await writeFile(new URL("wasm-utils.js", to), await script("wasm-utils/dist/index.js"));
for (const build of ["litert_wasm_internal", "litert_wasm_compat_internal"]) {
  for (const file of [`${build}.js`, `${build}.wasm`]) {
    await copyFile(new URL(`core/wasm/${file}`, from), new URL(`wasm/${file}`, to));
  }
}

// The menu of the models that this page's server has, by name.

const LIST = "model/models.json"; // gather.py writes it: [{name, file}, ...]

export class Menu {
  #select;
  #entries = []; // [{name, url}], the first one is opened first
  #other; // the option for a model that is not on the menu
  #name = "";

  /** Called with the URL of the model that the user chose. */
  onchoice = () => {};

  constructor(select) {
    this.#select = select;
    this.#other = new Option("", "");
    this.#other.hidden = this.#other.disabled = true;
    select.addEventListener("change", () => {
      this.onchoice(this.url(select.value));
    });
  }

  /** Read the list; a server without one has no menu.
   *
   * @throws {Error} the list is there, and not as gather.py writes it
   */
  async load() {
    // The server knows whole seconds only. To a browser that keeps the list, one that was
    // rewritten within a second would be "not modified".
    const response = await fetch(LIST, { cache: "no-store" }).catch(() => null);
    if (!response?.ok) return;
    const list = await response.json().catch(() => null);
    const known = ({ name, file }) => [name, file].every((s) => s && typeof s === "string");
    if (!Array.isArray(list) || !list.every((entry) => known(entry ?? {}))) {
      throw new Error(`${LIST} is damaged: make web writes it anew.`);
    }
    this.#entries = list.map(({ name, file }) => ({ name, url: `model/${file}` }));
    const options = this.#entries.map(({ name }) => new Option(name, name));
    this.#select.replaceChildren(this.#other, ...options);
    this.#select.parentElement.hidden = options.length < 2;
    this.show([]);
  }

  /** The URL of the model that opens first, or undefined. */
  get first() {
    return this.#entries[0]?.url;
  }

  /** The URL for a name on the menu; any other is a URL itself. */
  url(name) {
    return this.#entries.find((entry) => entry.name === name)?.url ?? name;
  }

  /** Whether a URL is that of a model on the menu. */
  has(url) {
    return this.#entries.some((entry) => entry.url === url);
  }

  /** Note which model was loaded, and select its entry.
   *
   * @param {string[]} sources its files or URLs
   * @param {boolean} select false leaves the menu at a later choice
   */
  show(sources, select = true) {
    const entry = this.#entries.find(({ url }) => sources.length === 1 && url === sources[0]);
    this.#other.text = sources.map((source) => source.split("/").at(-1)).join(" + ");
    this.#name = entry?.name ?? "";
    if (select) this.restore();
  }

  /** Select the loaded model again, after one that could not be loaded. */
  restore() {
    this.#select.value = this.#name;
  }
}

// The table of a RunStore. The cell shows a plain table; this script finds it in the page by its key and puts a living
// one in its place, so that what is saved is the plain one. Rows are sorted, filtered and ticked here, without the
// kernel; it is asked for all else.

const BUSY = 1_500; // milliseconds without an answer

export default {
  initialize({ model }) {
    const table = new Table(model);
    return () => table.remove();
  },
};

class Table {
  constructor(model) {
    this.model = model;
    this.sort = this.confirming = null;
    this.descending = false;
    this.filter = "";
    this.ticked = new Set();
    this.places = new Map(); // where it is shown, and there the view of the figure
    this.events = {
      "change:html": () => this.each((place) => this.fill(place)),
      "change:said": () => this.each((place) => this.say(place)),
      "change:figure": () => this.each((place) => this.draw(place)),
      "msg:custom": (content) => this.answered(content),
    };
    for (const [name, act] of Object.entries(this.events)) model.on(name, act);
    this.changes = new MutationObserver(() => this.look());
    this.changes.observe(document.body, { childList: true, subtree: true });
    this.look();
  }

  remove() {
    this.changes.disconnect();
    for (const [name, act] of Object.entries(this.events)) this.model.off(name, act);
  }

  look() {
    this.each((place, view) => {
      if (place.isConnected) return;
      view?.remove();
      this.places.delete(place);
    });
    for (const place of document.querySelectorAll(`[data-tmnb-store="${this.model.get("key")}"]`)) {
      if (this.places.has(place)) continue;
      this.places.set(place, null);
      this.fill(place);
    }
  }

  each(act) {
    for (const [place, view] of [...this.places]) act(place, view);
  }

  // Showing

  fill(place) {
    const held = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    place.innerHTML = this.model.get("html");
    const root = place.querySelector(".tmnb-store");
    root.addEventListener("click", ({ target }) => this.clicked(place, target));
    root.addEventListener("change", ({ target }) => this.changed(place, target));
    root.querySelector("input[type=search]").addEventListener("input", ({ target }) => {
      this.filter = target.value;
      this.show();
    });
    this.showIn(place);
    this.say(place);
    this.draw(place);
    if (held) place.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
  }

  show() {
    this.each((place) => this.showIn(place));
  }

  showIn(place) {
    const find = (selector) => place.querySelector(selector);
    const body = find("tbody"), rows = [...body.rows], words = this.filter.toLowerCase().split(/\s+/);
    rows.sort((one, other) => this.compared(one, other));
    body.append(...rows);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      row.toggleAttribute("data-ticked", this.ticked.has(row.dataset.run));
      find(`[data-key="${CSS.escape(`tick ${row.dataset.run}`)}"]`).checked = this.ticked.has(row.dataset.run);
    }
    const search = find("input[type=search]");
    if (search.value !== this.filter) search.value = this.filter;
    for (const head of place.querySelectorAll("thead th")) {
      const here = head.querySelector("button").dataset.sort === this.sort;
      head.setAttribute("aria-sort", here ? (this.descending ? "descending" : "ascending") : "none");
      head.querySelector("span").textContent = here ? (this.descending ? "▾" : "▴") : "";
    }
    const shown = this.shown(place), chosen = this.chosen(place), all = find("[data-all]");
    all.checked = shown.length > 0 && chosen.length === shown.length;
    all.indeterminate = chosen.length > 0 && !all.checked;
    find("[data-part=shown]").textContent = shown.length < rows.length ? `, ${shown.length} shown` : "";
    find("[data-do=compare]").disabled = find("[data-do=delete]").disabled = chosen.length === 0;
    find("[data-do=rename]").disabled = chosen.length !== 1;
    find("[data-do=page]").disabled = shown.length === 0;
    this.ask(find("[data-part=confirm]"));
  }

  compared(one, other) {
    if (this.sort === null) return one.dataset.place - other.dataset.place;
    const heads = [...one.closest("table").tHead.rows[0].cells];
    const column = heads.findIndex((head) => head.querySelector("button")?.dataset.sort === this.sort);
    const [a, b] = [one, other].map((row) => row.cells[column].dataset.value);
    if (a === "" || b === "") return (a === "") - (b === "");
    const number = heads[column].className === "tmnb-number";
    const order = number ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return this.descending ? -order : order;
  }

  shown(place) {
    return [...place.querySelectorAll("tbody tr:not([hidden])")].map((row) => row.dataset.run);
  }

  chosen(place) {
    return this.shown(place).filter((name) => this.ticked.has(name));
  }

  say(place, text = this.model.get("said")) {
    place.querySelector("[data-part=said]").textContent = text;
  }

  ask(part) {
    if (this.confirming === null) return part.replaceChildren();
    if (part.firstChild) return;
    const names = this.confirming.length > 3 ? `${this.confirming.length} runs` : this.confirming.join(", ");
    part.append(`Delete ${names} for good?`);
    for (const [action, label] of Object.entries({ yes: "Delete for good", no: "Keep" })) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: label });
      button.dataset.do = action;
      part.append(button);
    }
    part.lastChild.focus();
  }

  async draw(place) {
    const id = this.model.get("figure"), part = place.querySelector("[data-part=figure]");
    this.places.get(place)?.remove();
    part.replaceChildren();
    if (!id) return;
    const manager = this.model.widget_manager;
    const view = await manager.create_view(await manager.get_model(id));
    if (id !== this.model.get("figure") || !part.isConnected || part.firstChild) return view.remove();
    part.append(view.el);
    this.places.set(place, view);
  }

  // What a person does

  clicked(place, target) {
    const button = target.closest("button");
    if (!button) return;
    const { sort } = button.dataset, action = button.dataset.do;
    if (sort) {
      this.descending = this.sort === sort && !this.descending;
      this.sort = sort;
    } else if (action === "rename") {
      this.rename(place, this.chosen(place)[0]);
    } else if (action === "delete") {
      this.confirming = this.chosen(place);
    } else if (action === "yes" || action === "no") {
      if (action === "yes") this.send({ do: "delete", names: this.confirming });
      this.confirming = null;
    } else {
      const chosen = this.chosen(place);
      this.send({ do: action, names: chosen.length ? chosen : this.shown(place) });
    }
    this.show();
  }

  changed(place, target) {
    if (target.type !== "checkbox") return;
    const names = "all" in target.dataset ? this.shown(place) : [target.closest("tr").dataset.run];
    for (const name of names) this.ticked[target.checked ? "add" : "delete"](name);
    this.confirming = null;
    this.show();
  }

  rename(place, name) {
    const head = [...place.querySelectorAll("tbody tr")].find((row) => row.dataset.run === name).querySelector("th");
    const input = document.createElement("input");
    Object.assign(input, { type: "text", value: name, ariaLabel: `New name of ${name}` });
    head.replaceChildren(input);
    input.addEventListener("keydown", ({ key }) => {
      const given = input.value.trim();
      if (key === "Enter" && given !== name) this.send({ do: "rename", names: [name], new: given });
      else if (key === "Enter" || key === "Escape") this.fill(place);
    });
    input.select();
  }

  send(content) {
    this.model.send(content);
    clearTimeout(this.late);
    const words = "The kernel is busy; this is done when it is free.";
    this.late = setTimeout(() => this.each((place) => this.say(place, words)), BUSY);
  }

  answered({ ticked }) {
    clearTimeout(this.late);
    if (ticked) this.ticked = new Set(ticked);
    this.show();
    this.each((place) => this.say(place));
  }
}

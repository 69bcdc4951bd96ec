// The live panel: curves, and where the state has one a picture beside them. What is shown is a function of the state
// that the kernel sends: the whole as the trait `state`, and numbered deltas as messages. A view that is made late, or
// missed a delta, asks for the whole. plotly.js comes from the kernel, once for each page. Nothing is fetched.

const MARKED = 60; // up to so many points, each is marked
const SILENT = 12_000, GONE = 30_000; // milliseconds without a word from the kernel
const HEARD = 1_500, ASK_AGAIN = 8_000;
const IDLE = ["ready", "finished", "stopped", "failed"]; // nothing is expected of the kernel
const SIGNS = { ready: "○", running: "▶", paused: "❚❚", finished: "✓", stopped: "■", failed: "✕", gone: "⚠" };
const SCALES = { log: "log", linear: "linear", "loss - best": "loss − best" };
const X_AXES = { iteration: 0, "closure calls": 1, seconds: 2 }; // places among the columns
const PRICED = 4; // of any other x axis
const PICTURE = "picture."; // begins the names of its axes among the ranges that a person chose
const KINDS = [Int32Array, Int32Array, Float32Array, Float64Array, Float32Array];
const DTYPES = { int32: Int32Array, float32: Float32Array, float64: Float64Array };
const DASHES = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 4", longdashdot: "10 3 2 3" };
const MARKS = { circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", pentagon: "⬟", star: "★" };

export default {
  initialize({ model }) {
    // plotly.js may come before there is a view, and unasked: a kernel that a cell blocks hears no question.
    // The kernel is told that this script runs, and that what its threads send arrives: not every front end shows it.
    let heard = false;
    model.on("msg:custom", (content, buffers) => {
      if (content.type === "plotly") provide(content.version, buffers[0]);
      if (content.type === "beat" && !heard) {
        heard = true;
        model.send({ type: "heard" });
      }
    });
    model.send({ type: "loaded" });
  },
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.remove();
  },
};

// plotly.js

function shared(version) {
  const key = `torchmin_nb plotly.js ${version}`;
  if (!globalThis[key]) {
    const slot = { asked: -Infinity };
    slot.loaded = new Promise((resolve) => (slot.resolve = resolve));
    globalThis[key] = slot;
  }
  return globalThis[key];
}

async function evaluate(bytes) {
  // As a module of its own, which is not told of the page's loaders; window.Plotly stays whatever it was.
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const source = await new Response(stream).text();
  const wrapped = ["const module = { exports: {} }, exports = module.exports; let define, require;\n", source,
    "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(wrapped, { type: "text/javascript" }));
  const there = Object.hasOwn(window, "Plotly"), former = window.Plotly;
  try {
    return (await import(url)).default;
  } finally {
    URL.revokeObjectURL(url);
    if (there) window.Plotly = former;
    else delete window.Plotly;
  }
}

async function provide(version, bytes) {
  const slot = shared(version);
  if (slot.arrived) return;
  slot.arrived = true;
  try {
    slot.resolve(await evaluate(bytes));
  } catch (error) {
    slot.arrived = false;
    slot.error = error;
  }
}

// State

function typed(view, Kind) {
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function columns(arrays) {
  return arrays.map((array, place) => typed(array, KINDS[place]));
}

function unpacked(value, buffers) {
  if (Array.isArray(value)) return value.map((part) => unpacked(part, buffers));
  if (value === null || typeof value !== "object") return value;
  if ("bytes" in value) return numbers(value, value.bytes instanceof DataView ? value.bytes : buffers[value.bytes]);
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, unpacked(part, buffers)]));
}

function numbers({ dtype, shape: [rows, columns] }, view) {
  const all = typed(view, DTYPES[dtype]);
  return columns === undefined ? all : Array.from({ length: rows }, (_, row) => all.subarray(row * columns, (row + 1) * columns));
}

function joined(old, keep, added) {
  if (!keep) return added;
  const all = new old.constructor(keep + added.length);
  all.set(old.subarray(0, keep));
  all.set(added, keep);
  return all;
}

function applied(state, message, buffers) {
  const next = { ...state, ...message, columns: message.looks ? [] : [...state.columns] };
  if (!message.looks) {
    next.x_axes = { ...state.x_axes, ...message.x_axes };
    next.y_axes = {};
    for (const name of Object.keys(state.y_axes)) next.y_axes[name] = { ...state.y_axes[name], ...message.y_axes[name] };
  }
  const arrays = Object.keys(next.x_axes).length + 1; // and one for y
  message.points.forEach(({ curve, keep }, place) => {
    const added = columns(buffers.slice(arrays * place, arrays * (place + 1)));
    next.columns[curve] = added.map((column, part) => joined(next.columns[curve]?.[part], keep, column));
  });
  if (message.picture) {
    const picture = unpacked(message.picture, buffers);
    next.picture = { ...picture, traces: [...(state.picture?.traces.slice(0, picture.keep) ?? []), ...picture.traces] };
  }
  return next;
}

// The curves, and the picture beside them, as Plotly takes them

function curves(state, choice, zoom, ink) {
  if (!state.looks.length) return null;
  const layout = structuredClone(state.layout);
  layout.font = { ...layout.font, color: ink };
  const lane = layout.annotations.filter((note) => note.name).find((note) => note.name === "loss");
  if (lane && choice.scale === "loss - best") lane.text = "<b>loss − best</b>";
  const axes = { xaxis: state.x_axes[choice.x] };
  for (const [name, scales] of Object.entries(state.y_axes)) {
    axes[name] = scales[choice.scale] ?? (choice.scale === "linear" ? scales.linear : scales.log);
  }
  for (const [name, axis] of Object.entries(axes)) {
    const range = zoom[zoomKey(name, choice)];
    const ticks = range ? { tickmode: "auto" } : { tickmode: "array", tickvals: axis.ticks, ticktext: axis.labels };
    Object.assign(layout[name], { type: axis.log ? "log" : "linear", range: range ?? axis.range, autorange: false }, ticks);
  }
  layout.xaxis.title.text = choice.x;
  if (state.cursor) layout.shapes = [...layout.shapes, cursor(state.cursor[choice.x], ink)];
  return { layout, traces: state.looks.map((look, curve) => trace(look, state, curve, choice)) };
}

function cursor(x, ink) {
  return { type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: ink, width: 1, dash: "dot" } };
}

function picture(state, zoom, ink) {
  if (state.picture.hint) return null;
  const layout = structuredClone(state.picture.layout);
  layout.font = { ...layout.font, color: ink };
  for (const name of ["xaxis", "yaxis"]) {
    const range = zoom[`${PICTURE}${name} ${state.picture.name}`];
    if (range) Object.assign(layout[name], { range, autorange: false });
  }
  return { layout, traces: state.picture.traces.map((trace) => ({ ...trace })) };
}

function zoomKey(name, choice) {
  return `${name} ${name === "xaxis" ? choice.x : choice.scale}`;
}

function trace(look, state, curve, choice) {
  const points = state.columns[curve];
  const drawn = { showlegend: false, ...look, x: points[X_AXES[choice.x] ?? PRICED], y: points[3] };
  drawn.mode ??= points[3].length <= MARKED ? "lines+markers" : "lines";
  if (choice.scale === "loss - best" && state.y_axes[axisName(look.yaxis)]["loss - best"]) {
    drawn.y = Array.from(points[3], (loss) => (loss > state.best ? loss - state.best : null));
  }
  if (look.marker?.symbol === "line-ew-open") {
    const [low, high] = state.y_axes[axisName(look.yaxis)].linear.range;
    drawn.customdata = points[3];
    drawn.y = points[3].map((ratio) => Math.min(Math.max(ratio, low + 0.1), high - 0.1));
  } else if (look.hovertemplate.includes("%{customdata}")) {
    drawn.customdata = Array.from(points[1], (calls, k) => `${calls.toLocaleString("en")} closure calls · ${points[2][k].toPrecision(3)} s`);
  }
  return drawn;
}

function axisName(short) {
  return short.replace("y", "yaxis");
}

// Elements

function made(tag, name, parent, attributes = {}) {
  const element = document.createElement(tag);
  element.className = name;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

class Plot {
  // One Plotly figure. drawing(): its traces and layout, or null where words stand in its place.
  constructor(view, drawing, words, axisKey) {
    Object.assign(this, { view, drawing, words, axisKey });
    this.place = made("div", "tmnb-figure", view.figures, { role: "img" });
    this.empty = made("div", "tmnb-empty", this.place);
    const signal = view.abort.signal;
    this.place.addEventListener("pointerdown", () => (this.dragging = true), { signal });
    for (const name of ["pointerup", "pointercancel"]) {
      window.addEventListener(name, () => { this.dragging = false; if (this.late) this.draw(); }, { signal });
    }
    this.sizes = new ResizeObserver(() => this.resized());
    this.sizes.observe(this.place);
  }

  remove() {
    this.sizes.disconnect();
    if (this.drawn) this.view.plotly.purge(this.drawn);
    this.place.remove();
  }

  resized() {
    if (this.drawn && this.width !== this.place.clientWidth && this.place.clientWidth) {
      this.width = this.place.clientWidth;
      this.view.plotly.Plots.resize(this.drawn);
    } else if (!this.drawn && this.height) this.draw();
  }

  draw(height = this.height) {
    this.height = height;
    this.place.style.height = `${height}px`;
    tell(this.empty, this.words() ?? "");
    if (!this.view.plotly || this.frame) return;
    this.frame = requestAnimationFrame(() => { this.frame = null; this.drawNow(); });
  }

  drawNow() {
    const { plotly, root, hidden } = this.view;
    this.late = this.dragging;
    if (this.late || !this.place.clientWidth || !root.isConnected) return;
    const drawing = this.drawing();
    if (this.drawn) this.drawn.style.visibility = drawing ? "visible" : "hidden";
    if (!drawing) return;
    const { layout, traces } = drawing;
    for (const one of traces) if (hidden.has(one.legendgroup)) one.visible = false;
    const first = !this.drawn;
    if (first) this.drawn = made("div", "tmnb-plot", this.place);
    this.width = this.place.clientWidth;
    plotly.react(this.drawn, traces, layout, this.config());
    if (!first) return;
    this.drawn.on("plotly_relayout", (change) => this.zoomed(change));
    this.drawn.on("plotly_doubleclick", () => this.unzoom());
    this.drawn.on("plotly_click", ({ points: [{ x, y, data }] }) => {
      if (data.type === "contour") this.view.model.send({ type: "point", x, y });
    });
  }

  config() {
    const reset = { name: "Reset axes", title: "Reset axes", icon: this.view.plotly.Icons.home, click: () => this.unzoom() };
    return {
      displaylogo: false,
      doubleClick: false,
      responsive: false,
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", reset]],
    };
  }

  axes() {
    return Object.keys(this.drawn.layout).filter((name) => /^[xy]axis/.test(name));
  }

  zoomed(change) {
    const zoom = { ...this.view.model.get("zoom") };
    for (const name of this.axes()) {
      const moved = `${name}.range[0]` in change || `${name}.range` in change;
      if (moved) zoom[this.axisKey(name)] = [...this.drawn.layout[name].range];
    }
    this.view.keepZoom(zoom);
  }

  unzoom() {
    const zoom = { ...this.view.model.get("zoom") };
    for (const name of this.axes()) delete zoom[this.axisKey(name)];
    this.view.keepZoom(zoom);
  }
}

class View {
  constructor(model, el) {
    this.model = model;
    this.state = null;
    this.seq = this.epoch = null;
    this.hidden = new Set();
    this.heard = Date.now();
    this.lost = false; // whether the kernel is known to be gone
    this.sent = { number: 0, at: null };
    this.count = 10;
    this.abort = new AbortController();
    this.build(el);
    this.listen();
    this.take();
    model.send({ type: "ready", seq: this.seq, epoch: this.epoch });
  }

  build(el) {
    this.root = made("section", "tmnb-panel", el);
    const head = made("div", "tmnb-head", this.root);
    this.badge = made("span", "tmnb-badge", head, { role: "status" });
    this.method = made("strong", "tmnb-method", head);
    this.verdict = made("span", "tmnb-verdict", head);
    this.buttons = made("div", "tmnb-buttons", head, { role: "group", "aria-label": "Steer the run" });
    const bar = made("div", "tmnb-bar", this.root);
    this.facts = made("div", "tmnb-facts", bar, { role: "list" });
    this.progress = made("progress", "tmnb-progress", this.root, { max: 1, "aria-label": "Part of the limit that is used" });
    this.legend = made("div", "tmnb-legend", this.root);
    this.scale = this.choice(bar, "y axes", "scale", SCALES);
    this.x = this.choice(bar, "x axis", "x", {});
    this.figures = made("div", "tmnb-figures", this.root);
    this.curves = new Plot(
      this,
      () => curves(this.state, this.choices(), this.model.get("zoom"), this.ink()),
      () => (this.state.looks.length ? this.unread() : this.state.hint),
      (name) => zoomKey(name, this.choices()),
    );
  }

  beside() {
    return new Plot(
      this,
      () => picture(this.state, this.model.get("zoom"), this.ink()),
      () => this.state.picture.hint || this.unread(),
      (name) => `${PICTURE}${name} ${this.state.picture.name}`,
    );
  }

  choices() {
    return { scale: this.scale.value, x: this.x.value };
  }

  ink() {
    return getComputedStyle(this.root).color;
  }

  unread() {
    const { error } = shared(this.state.plotly);
    if (this.plotly) return "";
    return error ? `The curves cannot be drawn on this page: ${error}` : "The curves come as soon as the page has plotly.js …";
  }

  choice(parent, label, name, options) {
    const place = made("label", "tmnb-choice", parent);
    place.append(label);
    const select = made("select", "", place);
    this.offer(select, options);
    select.addEventListener("change", () => {
      this.model.set(name, select.value);
      this.model.save_changes();
      this.draw();
    });
    return select;
  }

  offer(select, options) {
    const offered = [...select.options].map(({ value }) => value);
    if (offered.join() === Object.keys(options).join()) return;
    select.replaceChildren();
    for (const [value, text] of Object.entries(options)) made("option", "", select, { value }).textContent = text;
  }

  listen() {
    const redraw = () => this.draw();
    this.events = {
      "change:state": () => this.take(),
      "change:scale": redraw,
      "change:x": redraw,
      "change:zoom": redraw,
      "msg:custom": (content, buffers) => this.receive(content, buffers),
      comm_live_update: () => { this.lost = true; this.show(); },
    };
    for (const [name, act] of Object.entries(this.events)) this.model.on(name, act);
    this.themes = new MutationObserver(redraw);
    for (const element of [document.documentElement, document.body]) {
      this.themes.observe(element, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-name", "data-vscode-theme-kind"] });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal: this.abort.signal });
    this.clock = setInterval(() => this.tick(), 1000);
  }

  remove() {
    for (const [name, act] of Object.entries(this.events)) this.model.off(name, act);
    this.abort.abort();
    this.themes.disconnect();
    clearInterval(this.clock);
    this.curves.remove();
    this.picture?.remove();
    this.root.remove();
  }

  // From the kernel

  take() {
    const whole = this.model.get("state");
    if (!whole?.columns || (whole.epoch === this.epoch && whole.seq < this.seq)) return;
    this.hear();
    ({ seq: this.seq, epoch: this.epoch } = whole);
    this.state = { ...whole, columns: whole.columns.map(columns), picture: unpacked(whole.picture) };
    this.load(whole.plotly);
    this.show();
  }

  receive(content, buffers) {
    this.hear();
    if (content.type === "plotly") return;
    if (content.type === "ack") this.acknowledged(content.number);
    else if (this.state === null || content.epoch !== this.epoch) this.ask();
    else if (content.type === "beat") content.seq > this.seq && this.ask();
    else if (content.type === "delta" && content.seq === this.seq + 1) {
      this.seq = content.seq;
      this.state = applied(this.state, content, buffers);
      this.show();
    } else if (content.seq > this.seq) this.ask();
  }

  hear() {
    const back = this.lost || this.silent;
    this.heard = Date.now();
    this.lost = this.silent = false;
    if (back && this.state) this.show();
  }

  ask() {
    if (Date.now() - (this.asked ?? 0) < 1000) return;
    this.asked = Date.now();
    this.model.send({ type: "whole" });
  }

  tick() {
    if (this.state === null) return;
    if (!this.plotly) this.load(this.state.plotly);
    if (this.sent.at !== null && Date.now() - this.sent.at > HEARD) this.showWords();
    if (IDLE.includes(this.state.header.badge)) return;
    const silence = Date.now() - this.heard;
    const was = [this.lost, this.silent];
    this.silent = silence > SILENT;
    this.lost ||= silence > GONE;
    if (was[0] !== this.lost || was[1] !== this.silent) this.show();
  }

  // plotly.js

  load(version) {
    const slot = shared(version);
    if (this.plotly || !version) return;
    if (!this.waits) {
      this.waits = true;
      slot.loaded.then((plotly) => { this.plotly = plotly; this.draw(); });
    }
    if (Date.now() - slot.asked > ASK_AGAIN && !slot.arrived) {
      slot.asked = Date.now();
      this.model.send({ type: "plotly" });
    }
  }

  // To the kernel

  press(button) {
    this.sent = { number: this.sent.number + 1, at: Date.now(), says: button.says };
    this.model.send({ type: "press", action: button.action, count: this.count, number: this.sent.number });
    this.show();
  }

  acknowledged(number) {
    if (number !== this.sent.number) return;
    this.sent.at = null;
    this.show();
  }

  // Showing

  show() {
    const { header } = this.state;
    const gone = this.lost ? "kernel gone" : this.silent ? "no answer" : null;
    const said = this.sent.at === null ? "" : this.sent.says;
    const badge = gone ?? (said || header.badge);
    const warned = badge === header.badge && header.tone === "warning";
    const sign = gone ? SIGNS.gone : badge === "finished" && warned ? "!" : SIGNS[badge] ?? "…";
    this.badge.dataset.state = gone ? "gone" : warned ? "warning" : badge;
    tell(this.badge, `${sign} ${badge}`);
    tell(this.method, header.method);
    this.showWords();
    this.root.setAttribute("aria-label", `Run of ${header.method}`);
    this.curves.place.setAttribute("aria-label", `Curves of the run: ${header.line}`);
    this.progress.style.visibility = header.progress === null ? "hidden" : "visible";
    this.progress.value = header.progress ?? 0;
    this.showFacts(header.facts);
    this.showButtons();
    this.showLegend();
    this.draw();
  }

  showFacts(facts) {
    while (this.facts.children.length > facts.length) this.facts.lastChild.remove();
    facts.forEach(([name, text], place) => {
      const pair = this.facts.children[place] ?? made("div", "tmnb-fact", this.facts, { role: "listitem" });
      if (!pair.firstChild) { made("small", "", pair); made("span", "", pair); }
      tell(pair.firstChild, name);
      tell(pair.lastChild, text);
      pair.classList.toggle("tmnb-wide", text.length > 14);  // not a number: a method's name
    });
  }

  showButtons() {
    const buttons = this.lost ? [] : this.state.buttons;
    const places = buttons.map((button) => (button.action === "pause" || button.action === "resume" ? "go" : button.action));
    for (const old of [...this.buttons.children]) if (!places.includes(old.dataset.place)) old.remove();
    buttons.forEach((button, place) => {
      let element = this.buttons.querySelector(`button[data-place=${places[place]}]`);
      if (!element) {
        element = made("button", "tmnb-button", this.buttons, { type: "button", "data-place": places[place] });
        if (button.action === "many") this.counter(element);
        element.addEventListener("click", () => this.press(element.button));
      }
      element.button = button;
      element.title = button.tip;
      element.disabled = !button.enabled || this.silent;
      tell(element, button.action === "many" ? `+${this.count}` : button.label);
    });
    this.buttons.toggleAttribute("aria-busy", this.sent.at !== null);
  }

  counter(button) {
    const name = "Iterations of the button beside";
    const input = made("input", "tmnb-count", this.buttons, { type: "number", min: 1, value: this.count, "aria-label": name, "data-place": "many" });
    input.addEventListener("input", () => {
      this.count = Math.max(1, Math.round(input.valueAsNumber || 1));
      tell(button, `+${this.count}`);
    });
  }

  showLegend() {
    const entries = this.state.legend;
    while (this.legend.children.length > entries.length) this.legend.lastChild.remove();
    entries.forEach((entry, place) => {
      let button = this.legend.children[place];
      if (!button) {
        button = made("button", "tmnb-entry", this.legend, { type: "button", title: "Show or hide this run" });
        button.innerHTML = '<svg width="28" height="12" aria-hidden="true"><line x1="0" y1="6" x2="28" y2="6" stroke-width="2"/></svg>';
        made("span", "", button);
        made("small", "", button);
        button.addEventListener("click", () => this.toggle(button.group));
      }
      button.group = entry.group;
      button.setAttribute("aria-pressed", String(!this.hidden.has(entry.group)));
      const line = button.querySelector("line");
      line.setAttribute("stroke", entry.colour);
      line.setAttribute("stroke-dasharray", DASHES[entry.dash]);
      tell(button.children[1], `${MARKS[entry.symbol] ?? ""} ${entry.group}`);
      button.children[1].style.setProperty("--tmnb-run", entry.colour);
      tell(button.children[2], entry.text);
    });
  }

  toggle(group) {
    if (!this.hidden.delete(group)) this.hidden.add(group);
    this.show();
  }

  showWords() {
    const { header } = this.state;
    const waited = this.sent.at === null ? 0 : Date.now() - this.sent.at;
    const text = this.lost ? "The kernel was restarted or is gone: this is the last that was heard of the run."
      : this.silent ? "The kernel does not answer at the moment."
      : waited > GONE ? "There is no answer: the kernel works on a cell, or was restarted. Then run the cell of this panel again."
      : waited > HEARD ? "The kernel is busy with a cell, and hears buttons when that has ended. The square button ■ of the notebook's toolbar interrupts it."
      : null;
    tell(this.verdict, text ?? header.verdict);
    this.verdict.title = text ? "" : header.original;
    this.verdict.dataset.tone = text ? "" : header.tone;
    this.verdict.setAttribute("role", header.tone === "error" ? "alert" : "status");
  }

  draw() {
    if (this.state === null) return;
    this.offer(this.x, Object.fromEntries(Object.keys(this.state.x_axes).map((x) => [x, x])));
    this.scale.value = this.model.get("scale");
    this.x.value = this.model.get("x");
    const { picture } = this.state;
    this.root.classList.toggle("tmnb-pair", Boolean(picture));
    if (picture) this.picture ??= this.beside();
    else { this.picture?.remove(); this.picture = null; }
    this.curves.draw(this.state.layout.height);
    this.picture?.draw(picture.layout.height);
    this.picture?.place.setAttribute("aria-label", picture.name);
  }

  keepZoom(zoom) {
    this.model.set("zoom", zoom);
    this.model.save_changes();
    this.draw();
  }
}

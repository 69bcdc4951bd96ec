// A native select with headings and disabled choices: the keyboard and screen readers know it.
// Once the panel stands in the page: JupyterLab takes arrow keys and Enter for the notebook unless the focused element
// itself says that they are its own.
function settle(el, tries = 50) {
  const panel = el.closest(".tm-explorer");
  if (panel) panel.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
  else if (tries) setTimeout(() => settle(el, tries - 1), 100);
}

function render({ model, el }) {
  el.classList.add("tm-field");
  const name = document.createElement("label");
  const select = document.createElement("select");
  name.htmlFor = select.id = `tm-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  el.append(name, select);

  function fill() {
    name.textContent = model.get("label");
    select.replaceChildren(
      ...model.get("groups").map(({ label, items }) => {
        const group = document.createElement("optgroup");
        group.label = label;
        for (const { value, text, disabled } of items) {
          const option = new Option(text, value);
          option.disabled = disabled;
          group.append(option);
        }
        return group;
      }),
    );
    show();
  }
  function show() {
    select.value = model.get("value");
    select.title = model.get("hint");
  }
  select.addEventListener("change", () => {
    model.set("value", select.value);
    model.save_changes();
  });
  model.on("change:groups", fill);
  model.on("change:label", fill);
  model.on("change:value", show);
  model.on("change:hint", show);
  fill();
  settle(el);
}
export default { render };

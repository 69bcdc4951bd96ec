// A field set of tick boxes under headings; what cannot be chosen says why. The first tick stands for all that can.
function render({ model, el }) {
  el.classList.add("tm-checks");
  const fields = document.createElement("fieldset");
  el.append(fields);

  function tick({ value, text, disabled, note }) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.dataset.value = value;
    box.disabled = disabled;
    box.checked = model.get("value").includes(value);
    label.append(box, " " + text);
    if (disabled) {
      label.className = "tm-off";
      const why = document.createElement("small");
      why.textContent = note;
      label.append(" ", why);
    }
    return label;
  }
  function every() {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.dataset.every = "";
    label.className = "tm-every";
    label.append(box, " " + model.get("every"));
    return label;
  }
  function fill() {
    const legend = document.createElement("legend");
    legend.textContent = model.get("label");
    const groups = model.get("groups").map(({ label, items }) => {
      const group = document.createElement("div");
      const heading = document.createElement("strong");
      heading.textContent = label;
      group.append(heading, ...items.map(tick));
      return group;
    });
    const held = fields.contains(document.activeElement) ? document.activeElement.dataset.value : null;
    fields.replaceChildren(legend, every(), ...groups);
    show();
    if (held) fields.querySelector(`[data-value="${CSS.escape(held)}"]`)?.focus();
  }
  function show() {
    const boxes = [...fields.querySelectorAll("input[data-value]")];
    for (const box of boxes) box.checked = model.get("value").includes(box.dataset.value);
    const first = fields.querySelector("input[data-every]");
    first.checked = boxes.every((box) => box.checked || box.disabled);
    first.indeterminate = !first.checked && boxes.some((box) => box.checked);
  }
  fields.addEventListener("change", ({ target }) => {
    const all = "every" in target.dataset;
    const boxes = [...fields.querySelectorAll("input[data-value]:enabled")].filter((box) => (all ? target : box).checked);
    model.set("value", boxes.map((box) => box.dataset.value));
    model.save_changes();
  });
  model.on("change:groups", fill);
  model.on("change:value", show);
  fill();
}
export default { render };

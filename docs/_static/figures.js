// Draws the stored Plotly figures of a page when they come into view. Until then, and without scripts, their picture is shown.
const here = document.currentScript.src;
let plotly;

function load() {
  plotly ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", here);
    script.onload = () => done(window.Plotly);
    script.onerror = failed;
    document.head.append(script);
  });
  return plotly;
}

// Dark or light, as the page is: what the stored layout does not say itself.
function looks() {
  const page = getComputedStyle(document.documentElement);
  const text = page.getPropertyValue("--pst-color-text-base").trim();
  const line = page.getPropertyValue("--pst-color-border").trim();
  return { text, line };
}

function themed(layout) {
  const { text, line } = looks();
  const changed = {
    ...layout,
    autosize: true,
    width: undefined,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { ...layout.font, color: text },
  };
  for (const name of Object.keys(layout).filter((each) => /^[xy]axis\d*$/.test(each))) {
    changed[name] = { ...layout[name], gridcolor: line, linecolor: line, zerolinecolor: line };
  }
  return changed;
}

async function draw(box) {
  const { data, layout } = JSON.parse(box.querySelector("script").textContent);
  const Plotly = await load();
  const graph = document.createElement("div");
  const image = box.querySelector("img");
  const show = () => Plotly.react(graph, data, themed(layout), { responsive: true, displaylogo: false });
  graph.setAttribute("role", "img");
  graph.setAttribute("aria-label", image.alt);
  image.hidden = true;
  box.append(graph);
  await show();
  new MutationObserver(show).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        seen.unobserve(target);
        draw(target);
      }
    }
  },
  { rootMargin: "300px" },
);
for (const box of document.querySelectorAll(".stored-figure")) seen.observe(box);

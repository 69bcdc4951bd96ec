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

async function draw(box) {
  const { data, layout } = JSON.parse(box.querySelector("script").textContent);
  const Plotly = await load();
  const graph = document.createElement("div");
  const image = box.querySelector("img");
  graph.setAttribute("role", "figure");
  graph.setAttribute("aria-label", image.alt);
  image.hidden = true;
  box.append(graph);
  await Plotly.newPlot(graph, data, { ...layout, autosize: true, width: undefined }, { responsive: true, displaylogo: false });
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

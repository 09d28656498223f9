// Draws the figures of the overview, and asks for them again while somebody looks.
"use strict";
(() => {
  const places = [...document.querySelectorAll("figure[data-columns]")];
  const section = document.getElementById("charts");
  if (!places.length || !section) return;

  const paints = () => ["--chart-1", "--chart-2", "--chart-3"].map((name) => resolved(name));
  // A canvas knows no light-dark(): an element is asked what it comes to.
  function resolved(name) {
    const probe = document.createElement("i");
    probe.hidden = true;
    probe.className = `paint${name}`;
    section.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  const SHOWN_S = 1800;
  const charts = [];
  let last = null;
  const shorten = (value) => {
    if (Math.abs(value) >= 1e6) return `${+(value / 1e6).toFixed(1)} M`;
    if (Math.abs(value) >= 1e3) return `${+(value / 1e3).toFixed(1)} k`;
    return `${+value.toFixed(2)}`;
  };

  const clock = (moment) => new Date(moment * 1000).toISOString().slice(11, 16);

  function draw(figures) {
    last = figures;
    section.hidden = !figures.at.length;
    if (!figures.at.length) return;
    places.forEach((place, number) => {
      const names = place.dataset.columns.split(" ");
      const data = [figures.at, ...names.map((name) => figures.columns[name])];
      if (charts[number]) charts[number].setData(data);
      else charts[number] = make(place, names, data);
      place.querySelectorAll("[data-now]").forEach((one) => {
        const value = figures.columns[one.dataset.now].at(-1);
        one.textContent = value === null ? "–" : shorten(value);
      });
    });
  }

  function make(place, names, data) {
    const plot = place.querySelector(".plot");
    const [ink, line] = [resolved("--quiet"), resolved("--line")];
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const axes = [
      { ...axis, grid: { show: false }, size: 26, space: 60, values: (_, moments) => moments.map(clock) },
      { ...axis, size: 52, values: (_, values) => values.map(shorten) },
    ];
    const colours = paints();
    const series = names.map((name, index) => ({
      stroke: colours[index], width: 2, points: { show: false }, spanGaps: false, dash: index ? [6, 3 * index] : [],
    }));
    const range = (_, least, most) => [0, Math.max(most * 1.1, 1)];
    const window = (_, least, most) => [most - SHOWN_S, most];
    return new uPlot({
      width: plot.clientWidth, height: 150, legend: { show: false }, cursor: { show: false },
      scales: { x: { range: window }, y: { range } }, axes, series: [{}, ...series],
    }, data, plot);
  }

  function redraw() {
    charts.splice(0).forEach((chart) => chart.destroy());
    if (last) draw(last);
  }

  async function look() {
    if (document.hidden) return;
    try {
      const answer = await fetch("/operations/figures.json", { credentials: "same-origin" });
      if (answer.ok && !answer.redirected) draw(await answer.json());
    } catch {
      // The next look may find it again.
    }
  }

  new ResizeObserver(() => charts.forEach((chart, number) => {
    const width = places[number].querySelector(".plot").clientWidth;
    if (width) chart.setSize({ width, height: 150 });
  })).observe(section);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("visibilitychange", look);
  setInterval(look, 5000);
  look();
})();

"use strict";
// Charts of a report, drawn with D3. The data of all charts and replays is JSON in the page; texts are set as text.
//
// A chart has the label `x` of its horizontal axis, and `views` to choose from. A view has a `name`, the label `y`, and
// `lines`, or `points`:
//   line   name, style (line, thin, dots or level), color (0 to 7), dash (0 to 2), x, y, and perhaps low and high.
//          A level is a baseline: a single y, over the whole width.
//   point  x, y, perhaps low and high, color, mark (dot, cross or star), text (lines of the tip).
// A view with points may have `front`, points [x, y] of a stair, and `choices`, the names of x = 0, 1, ...

const data = JSON.parse(document.getElementById("data").textContent);
const DASHES = ["", "7 4", "2 3"];
const MARGIN = { top: 8, right: 14, bottom: 42, left: 62 };

function number(value) {
  const size = Math.abs(value);
  const text = d3.format(size >= 1000 ? ",.0f" : size >= 10 ? ",.2f" : ",.4~g")(value);
  return text.replace("-", "\u2212");
}

function short(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}\u2026` : text;
}

function tick(value) {
  const text = Math.abs(value) >= 1000 ? d3.format("~s")(value) : d3.format("~g")(value);
  return text.replace("-", "\u2212");
}

// The numbers of a view that its vertical axis must show: intervals count up to the height of the lines at most.
function range(values, ends) {
  let [low, high] = d3.extent(values);
  if (low === undefined) [low, high] = [0, 1];
  const height = high - low || Math.abs(high) || 1;
  low = Math.max(low - height, d3.min([low, ...ends]));
  high = Math.min(high + height, d3.max([high, ...ends]));
  const margin = (high - low || height) * 0.06;
  return [low - margin, high + margin];
}

// A vertical scale with bounds far outside of the chart: a path cannot hold numbers of any size.
function bounded(y) {
  return (value) => Math.max(-1e4, Math.min(1e4, y(value)));
}

// Draw the axes of a view; return the SVG's inner group and its size.
function frame(figure, chart, view, x, y) {
  const width = Math.max(figure.clientWidth, 240);
  const height = Math.round(Math.min(380, Math.max(240, width * 0.5)));
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  x.range([0, inner.width]);
  y.range([inner.height, 0]);
  const svg = d3.select(figure).append("svg").attr("viewBox", `0 0 ${width} ${height}`)
    .attr("role", "img").attr("tabindex", 0).attr("aria-label", `${view.y} over ${chart.x}`);
  const group = svg.append("g").attr("transform", `translate(${MARGIN.left},${MARGIN.top})`);
  const bottom = d3.axisBottom(x).tickSize(6).tickPadding(4);
  const few = Math.max(3, Math.floor(inner.width / 90));
  if (view.choices) bottom.tickFormat((k) => short(view.choices[k], 12));
  else bottom.ticks(few).tickFormat(x.base ? (value) => x.tickFormat(few)(value) && tick(value) : tick);
  group.append("g").attr("class", "axis").attr("transform", `translate(0,${inner.height})`).call(bottom);
  group.append("g").attr("class", "axis").call(d3.axisLeft(y).ticks(6).tickFormat(tick).tickSize(-inner.width).tickPadding(8));
  svg.append("text").attr("x", MARGIN.left + inner.width / 2).attr("y", height - 4).attr("text-anchor", "middle").text(short(view.x || chart.x, 40));
  svg.append("text").attr("transform", `translate(13,${MARGIN.top + inner.height / 2}) rotate(-90)`).attr("text-anchor", "middle").text(short(view.y, 40));
  const clip = `clip-${frame.count++}`;
  group.append("clipPath").attr("id", clip).append("rect").attr("x", -5).attr("width", inner.width + 10).attr("height", inner.height);
  return { svg, group, inner, clipped: group.append("g").attr("clip-path", `url(#${clip})`) };
}
frame.count = 0;

// Show a tip beside a place of the figure: a title, and rows of color, name and value.
function showTip(figure, left, top, title, rows) {
  d3.select(figure).selectAll(".tip").remove();
  const tip = d3.select(figure).append("div").attr("class", "tip").attr("role", "status");
  tip.append("div").text(title);
  const lines = tip.append("table").selectAll("tr").data(rows).enter().append("tr");
  const names = lines.append("td");
  names.filter((row) => row.color !== undefined).append("span").attr("class", (row) => `swatch color-${row.color}`);
  names.append("span").text((row) => row.name);
  lines.append("td").text((row) => row.value);
  const box = tip.node().getBoundingClientRect();
  const x = left + 14 + box.width > figure.clientWidth ? Math.max(0, left - 14 - box.width) : left + 14;
  tip.style("left", `${x}px`).style("top", `${Math.max(0, top - box.height / 2)}px`);
}

function hideTip(figure) {
  d3.select(figure).selectAll(".tip, .cursor").remove();
}

// Call `point` with the place of the mouse or finger inside the axes, and `step` with -1 or 1 for the arrow keys.
function listen(figure, svg, point, step) {
  const at = () => {
    const [left, top] = d3.mouse(svg.node());
    point([left - MARGIN.left, top - MARGIN.top]);
  };
  svg.on("pointermove", at).on("pointerdown", at).on("pointerleave", () => hideTip(figure)).on("blur", () => hideTip(figure));
  svg.on("keydown", () => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[d3.event.key];
    if (d3.event.key === "Escape") hideTip(figure);
    if (way === undefined) return;
    d3.event.preventDefault();
    step(way);
  });
}

function drawChart(figure, chart) {
  let view = chart.views[0];
  const redraw = (focused) => {
    d3.select(figure).selectAll(":scope > :not(label)").remove();
    if (view.lines) drawLegend(figure, view, redraw);
    (view.lines ? drawLines : drawPoints)(figure, chart, view);
    if (focused !== undefined) figure.querySelectorAll(".legend button")[focused].focus();
  };
  if (chart.views.length > 1) {
    const label = d3.select(figure).append("label").text("Show ");
    const select = label.append("select").on("change", function () { view = chart.views[this.selectedIndex]; redraw(); });
    select.selectAll("option").data(chart.views).enter().append("option").text((each) => each.name);
  }
  let width = -1;
  new ResizeObserver(() => {
    if (figure.clientWidth !== width) { width = figure.clientWidth; redraw(); }
  }).observe(figure);
}

document.querySelectorAll("[data-chart]").forEach((figure) => drawChart(figure, data.charts[figure.dataset.chart]));

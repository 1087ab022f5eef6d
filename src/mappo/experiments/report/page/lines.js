// Lines over steps: the mouse gets the values of all lines at the nearest step.

function valueAt(line, step) {
  if (line.style === "level") return 0;
  const nearest = d3.bisectLeft(line.x, step);
  const before = nearest > 0 && (nearest === line.x.length || step - line.x[nearest - 1] < line.x[nearest] - step);
  return before ? nearest - 1 : nearest;
}

function interval(line, k) {
  if (!line.low || line.low[k] === null) return "";
  return ` (${number(line.low[k])} to ${number(line.high[k])})`;
}

function drawLines(figure, chart, view) {
  const shown = view.lines.filter((line) => !line.hidden);
  const curves = shown.filter((line) => line.style !== "level");
  const steps = d3.merge(curves.map((line) => line.x));
  const values = d3.merge(shown.map((line) => line.y)).filter((value) => value !== null);
  const ends = d3.merge(shown.map((line) => [...(line.low || []), ...(line.high || [])])).filter((value) => value !== null);
  const x = d3.scaleLinear().domain([0, d3.max(steps) || 1]);
  const y = d3.scaleLinear().domain(range(values, ends));
  const { svg, group, inner, clipped } = frame(figure, chart, view, x, y);
  const height = bounded(y);
  for (const line of shown) {
    const xs = line.style === "level" ? x.domain() : line.x;
    const at = (list, k) => (line.style === "level" ? list[0] : list[k]);
    const has = (step, k) => at(line.y, k) !== null;
    if (line.low) {
      const area = d3.area().defined((step, k) => at(line.low, k) !== null)
        .x((step) => x(step)).y0((step, k) => height(at(line.low, k))).y1((step, k) => height(at(line.high, k)));
      clipped.append("path").attr("class", `band fill color-${line.color}`).attr("d", area(xs));
    }
    const path = d3.line().defined(has).x((step) => x(step)).y((step, k) => height(at(line.y, k)));
    clipped.append("path").attr("class", `line stroke ${line.style} color-${line.color}`)
      .attr("stroke-dasharray", DASHES[line.dash || 0]).attr("d", path(xs));
    if (line.style === "dots" || xs.length === 1) {
      clipped.append("g").attr("class", `fill color-${line.color}`).selectAll("circle")
        .data(d3.range(xs.length).filter((k) => has(xs[k], k))).enter().append("circle")
        .attr("r", xs.length > 60 ? 2 : 3.2).attr("cx", (k) => x(xs[k])).attr("cy", (k) => height(line.y[k]));
    }
  }
  const stops = Array.from(new Set(steps)).sort(d3.ascending);
  const show = (step) => {
    hideTip(figure);
    const rows = [];
    let place = step;
    const main = curves.filter((line) => line.style !== "thin")[0] || curves[0];
    if (main) place = main.x[valueAt(main, step)];
    const cursor = group.append("g").attr("class", "cursor");
    cursor.append("line").attr("class", "rule").attr("x1", x(place)).attr("x2", x(place)).attr("y2", inner.height);
    for (const line of shown) {
      const k = valueAt(line, place);
      if (line.y[k] === null) continue;
      rows.push({ color: line.color, name: line.name, value: number(line.y[k]) + interval(line, k) });
      const cx = line.style === "level" ? x(place) : x(line.x[k]);
      cursor.append("circle").attr("class", `fill color-${line.color}`).attr("r", 4).attr("cx", cx).attr("cy", height(line.y[k]));
    }
    const scale = figure.clientWidth / svg.node().viewBox.baseVal.width;
    const top = svg.node().offsetTop || svg.node().getBoundingClientRect().top - figure.getBoundingClientRect().top;
    showTip(figure, (MARGIN.left + x(place)) * scale, top + (inner.height / 2) * scale, `step ${d3.format(",")(place)}`, rows);
    show.place = place;
  };
  listen(figure, svg, (point) => show(x.invert(point[0])), (way) => {
    const here = show.place === undefined ? (way > 0 ? -1 : stops.length) : d3.bisectLeft(stops, show.place);
    const jump = Math.max(1, Math.round(stops.length / 50));
    if (stops.length) show(stops[Math.min(Math.max(here + way * jump, 0), stops.length - 1)]);
  });
}

function drawLegend(figure, view, redraw) {
  const named = view.lines.filter((line) => line.name);
  if (named.length < 2) return;
  const buttons = d3.select(figure).append("div").attr("class", "legend").selectAll("button").data(named).enter()
    .append("button").attr("type", "button").attr("aria-pressed", (line) => String(!line.hidden))
    .on("click", (line) => { line.hidden = !line.hidden; redraw(named.indexOf(line)); });
  const swatches = buttons.append("svg").attr("viewBox", "0 0 22 10").attr("aria-hidden", "true");
  swatches.append("line").attr("class", (line) => `line stroke ${line.style} color-${line.color}`).attr("x2", 22)
    .attr("y1", 5).attr("y2", 5).attr("stroke-dasharray", (line) => DASHES[line.dash || 0]);
  swatches.filter((line) => line.style === "dots").append("circle").attr("class", (line) => `fill color-${line.color}`)
    .attr("r", 3.2).attr("cx", 11).attr("cy", 5);
  buttons.append("span").text((line) => line.name);
}

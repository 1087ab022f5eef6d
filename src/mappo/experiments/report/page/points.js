// Points, such as trials: the mouse gets the nearest point.

function drawPoints(figure, chart, view) {
  const points = view.points;
  const ends = d3.merge(points.map((point) => (point.low === undefined ? [] : [point.low, point.high])));
  const xs = points.map((point) => point.x);
  const spread = (d3.max(xs) - d3.min(xs) || Math.abs(d3.max(xs)) || 1) * 0.05;
  const x = view.log ? d3.scaleLog().domain([d3.min(xs) / 1.2, d3.max(xs) * 1.2])
    : view.choices ? d3.scalePoint().domain(d3.range(view.choices.length)).padding(0.5)
    : d3.scaleLinear().domain([d3.min(xs) - spread, d3.max(xs) + spread]);
  // A few poor trials must not flatten the picture: they stand at the lower edge.
  const sorted = points.map((point) => point.y).sort(d3.ascending);
  const quarter = d3.quantile(sorted, 0.25);
  const floor = quarter - 2 * (d3.max(sorted) - quarter);
  const inside = (value) => Math.max(value, d3.max(sorted) > quarter ? floor : value);
  const y = d3.scaleLinear().domain(range(sorted.map(inside), ends.map(inside)));
  const { svg, group, clipped } = frame(figure, chart, view, x, y);
  const height = (value) => bounded(y)(inside(value));
  const place = (point) => [x(point.x), height(point.y)];
  clipped.selectAll(".whisker").data(points.filter((point) => point.low !== undefined)).enter().append("line")
    .attr("class", (point) => `stroke color-${point.color}`).attr("opacity", 0.4)
    .attr("x1", (point) => x(point.x)).attr("x2", (point) => x(point.x))
    .attr("y1", (point) => height(point.low)).attr("y2", (point) => height(point.high));
  if (view.front) {
    const stair = d3.line().curve(d3.curveStepAfter).x((pair) => x(pair[0])).y((pair) => height(pair[1]));
    clipped.append("path").attr("class", "line stroke color-1").attr("d", stair(view.front));
    clipped.selectAll(".ring").data(view.front).enter().append("circle").attr("class", "ring color-1")
      .attr("r", 8).attr("cx", (pair) => x(pair[0])).attr("cy", (pair) => height(pair[1]));
  }
  const marks = { dot: [d3.symbolCircle, 40], cross: [d3.symbolCross, 40], star: [d3.symbolStar, 170] };
  clipped.selectAll(".mark").data(points).enter().append("path")
    .attr("class", (point) => `mark fill color-${point.color}`)
    .attr("transform", (point) => `translate(${place(point)})`)
    .attr("d", (point) => d3.symbol().type(marks[point.mark][0]).size(marks[point.mark][1])());
  const show = (index) => {
    hideTip(figure);
    const point = points[index];
    const [cx, cy] = place(point);
    group.append("g").attr("class", "cursor").append("circle").attr("class", `ring color-${point.color}`).attr("r", 7).attr("cx", cx).attr("cy", cy);
    const scale = figure.clientWidth / svg.node().viewBox.baseVal.width;
    const top = svg.node().getBoundingClientRect().top - figure.getBoundingClientRect().top;
    const rows = point.text.slice(1).map(([name, value]) => ({ name, value }));
    showTip(figure, (MARGIN.left + cx) * scale, top + (MARGIN.top + cy) * scale, point.text[0], rows);
    show.place = index;
  };
  listen(figure, svg, (mouse) => {
    const distances = points.map((point) => Math.hypot(place(point)[0] - mouse[0], place(point)[1] - mouse[1]));
    show(d3.scan(distances));
  }, (way) => show(show.place === undefined ? 0 : (show.place + way + points.length) % points.length));
}

// Axes, error bars and labels as inline SVG. Colours are Okabe and Ito's; markers tell series apart without them.

const SERIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const HALF = 4.5; // of a marker's width, in pixels
const MARKERS = [
  (x, y) => shape("circle", { cx: x, cy: y, r: HALF }),
  (x, y) => shape("rect", { x: x - HALF, y: y - HALF, width: 2 * HALF, height: 2 * HALF }),
  (x, y) =>
    polygon(x, y, [
      [0, -1.2],
      [1.1, 0.8],
      [-1.1, 0.8],
    ]),
  (x, y) =>
    polygon(x, y, [
      [0, -1.25],
      [1.25, 0],
      [0, 1.25],
      [-1.25, 0],
    ]),
  (x, y) =>
    polygon(x, y, [
      [0, 1.2],
      [1.1, -0.8],
      [-1.1, -0.8],
    ]),
  (x, y) =>
    polygon(x, y, [
      [-0.4, -1.2],
      [0.4, -1.2],
      [0.4, -0.4],
      [1.2, -0.4],
      [1.2, 0.4],
      [0.4, 0.4],
      [0.4, 1.2],
      [-0.4, 1.2],
      [-0.4, 0.4],
      [-1.2, 0.4],
      [-1.2, -0.4],
      [-0.4, -0.4],
    ]),
];

function polygon(x, y, corners) {
  return shape("polygon", {
    points: corners.map(([right, down]) => `${x + right * HALF},${y + down * HALF}`).join(" "),
  });
}

function marker(series, x, y) {
  const made = MARKERS[series % MARKERS.length](x, y);
  made.setAttribute("fill", SERIES[series % SERIES.length]);
  return made;
}

function ticksOf(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step)
    ticks.push(Math.round(tick / step) * step);
  return ticks;
}

// An axis from values: its range with room at both ends, the pixels of a value, and its ticks.
function axis(values, measure, from, to, most) {
  const scale = measure.unit === "percent" ? 100 : 1;
  const [least, greatest] = ends(values);
  const logarithmic = measure.unit !== "percent" && least > 0 && greatest > 100 * least;
  const on = logarithmic ? Math.log10 : (value) => scale * value;
  let [low, high] = [on(least), on(greatest)];
  const room = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  [low, high] = [low - room, high + room];
  if (measure.unit === "percent" && least >= 0) [low, high] = [Math.max(0, low), Math.min(100 + room / 2, high)];
  const ticks = logarithmic ? ticksOf(low, high, most).filter(Number.isInteger) : ticksOf(low, high, most);
  const decimals = ticks.length > 1 ? Math.max(0, -Math.floor(Math.log10(ticks[1] - ticks[0]) + 1e-9)) : 1;
  return {
    at: (value) => from + ((on(value) - low) / (high - low)) * (to - from),
    ticks: ticks.map((tick) => ({
      at: from + ((tick - low) / (high - low)) * (to - from),
      label: logarithmic ? `1e${tick}` : tick.toFixed(decimals),
    })),
  };
}

function frame(width, height, title) {
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
}

// Lines across from left to right at an upright axis's ticks.
function grid(svg, { ticks }, left, right) {
  for (const { at, label } of ticks) {
    svg.append(shape("line", { x1: left, x2: right, y1: at, y2: at, class: "grid" }));
    svg.append(shape("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, label));
  }
}

function tickLabels(svg, ticks, bottom) {
  for (const { at, label } of ticks)
    svg.append(shape("text", { x: at, y: bottom + 18, "text-anchor": "middle" }, label));
}

function axisLabel(measure) {
  const unit = unitOf(measure);
  return unit ? `${measure.label} (${unit})` : measure.label;
}

// A line with caps from low to high, upright or flat.
function errorBar(vertical, at, low, high, colour) {
  const path = vertical
    ? `M${at} ${low}V${high}M${at - 3} ${low}h6M${at - 3} ${high}h6`
    : `M${low} ${at}H${high}M${low} ${at - 3}v6M${high} ${at - 3}v6`;
  return shape("path", { d: path, stroke: colour, "stroke-width": 1.2, fill: "none", opacity: 0.7 });
}

// Elements and numbers. Names are other people's: they enter the page as text and attributes, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Numbers are written as avar_eval/number_format.py writes them. printed: as a paper prints it, with one decimal.
function formatted(value, measure, printed = false) {
  if (measure.unit === "percent")
    return (measure.suffix === "points" && value >= 0 ? "+" : "") + (100 * value).toFixed(1);
  return printed ? value.toFixed(1) : ratio(value);
}

// Two decimals below 100, from there on three digits: 7.52, 123, 1.23k, 45.6M, 4.20e9.
function ratio(value) {
  const size = Math.abs(value);
  if (size < 99.995) return value.toFixed(2);
  if (size >= 999.5e6) return value.toExponential(2).replace("e+", "e");
  const digits = Number(value.toPrecision(3));
  const [unit, letter] = [
    [1e6, "M"],
    [1e3, "k"],
    [1, ""],
  ].find(([of]) => Math.abs(digits) >= of);
  return (digits / unit).toPrecision(3) + letter;
}

function interval(low, high, measure) {
  const between = low < 0 || measure.suffix === "points" ? " to " : "–"; // a minus sign after a dash is not read
  return formatted(low, measure) + between + formatted(high, measure);
}

function unitOf(measure) {
  return { percent: "%", points: "points", nats: "nats" }[measure.suffix] ?? "";
}

// Where a value lies on a column's scale, 0..1: from its least to its greatest value, but never a small range drawn
// large. A ratio that spans more than two decades is drawn on its logarithm.
function scaleOf(values, measure) {
  const [least, greatest] = ends(values);
  const logarithmic = measure.unit !== "percent" && least > 0 && greatest > 100 * least;
  const on = logarithmic ? Math.log : (value) => value;
  let [low, high] = [on(least), on(greatest)];
  const missing = (measure.unit === "percent" ? 0.2 : logarithmic ? 0 : 0.4 * Math.abs(high)) - (high - low);
  if (missing > 0) [low, high] = [low - missing / 2, high + missing / 2];
  return (value) => (high > low ? clamp((on(value) - low) / (high - low)) : 0.5);
}

// The least and the greatest. Not Math.min(...values), which is a call with as many arguments.
function ends(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}

// The interval as a band, the value as a dot.
function bar(cell, measure, scale) {
  const [value, low, high] = cell;
  const dot = element("b");
  dot.style.left = `${100 * scale(value)}%`;
  const drawn = element("span", { class: `bar ${measure.kind}`, "aria-hidden": "true" }, element("i"));
  if (low !== null && high !== null) {
    const band = element("u");
    band.style.left = `${100 * scale(low)}%`;
    band.style.width = `${100 * Math.max(0, scale(high) - scale(low))}%`;
    drawn.append(band);
  }
  drawn.append(dot);
  return drawn;
}

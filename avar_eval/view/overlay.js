
// Where the model looked in a picture: lines around the places that get several times what an even spread would give
// them, over the picture's own colours, and beside it the attention alone.
const LEVELS = [1.25, 2, 4, 8];
const HEAT = [[255, 255, 255], [251, 197, 119], [224, 123, 0], [122, 35, 0]];
const WHOSE = { user: "the question's tokens", response: "the answer's tokens" };

function valuesOf(heat) {
  return Uint8Array.from(atob(heat.grid), (byte) => byte.charCodeAt(0));
}

function drawLines(canvas, overlay, heat) {
  const { rows, columns } = overlay;
  const box = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * scale));
  canvas.height = Math.max(1, Math.round(box.height * scale));
  const context = canvas.getContext("2d");
  const values = valuesOf(heat);
  const [wide, tall] = [canvas.width / columns, canvas.height / rows];
  const inside = (row, column, level) =>
    row >= 0 && column >= 0 && row < rows && column < columns && (values[row * columns + column] / 255) * heat.highest >= level;
  for (const [order, level] of LEVELS.entries()) {
    context.beginPath();
    for (let row = 0; row <= rows; row++) {
      for (let column = 0; column <= columns; column++) {
        const here = inside(row, column, level);
        if (here !== inside(row, column - 1, level)) {
          context.moveTo(column * wide, row * tall);
          context.lineTo(column * wide, (row + 1) * tall);
        }
        if (here !== inside(row - 1, column, level)) {
          context.moveTo(column * wide, row * tall);
          context.lineTo((column + 1) * wide, row * tall);
        }
      }
    }
    for (const [colour, width] of [["#ffffff", 2.6 + 0.8 * order], ["#c2185b", 1.1 + 0.8 * order]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * scale;
      context.lineCap = "square";
      context.stroke();
    }
  }
}

function heatMap(overlay, heat) {
  const canvas = element("canvas", { class: "heat", width: overlay.columns, height: overlay.rows, role: "img",
    "aria-label": `Attention from ${WHOSE[heat.name]} over the picture` });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(overlay.columns, overlay.rows);
  valuesOf(heat).forEach((value, index) => {
    const place = (value / 255) * (HEAT.length - 1);
    const low = Math.min(Math.floor(place), HEAT.length - 2);
    HEAT[low].forEach((channel, part) => {
      pixels.data[4 * index + part] = Math.round(channel + (place - low) * (HEAT[low + 1][part] - channel));
    });
    pixels.data[4 * index + 3] = 255;
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// A picture; with an overlay, buttons that choose from where the model is seen to look. whose: its run, beside others.
function figure(name, index, overlay, whose) {
  if (name === null) return element("figure", {}, element("figcaption", {}, `Picture ${index + 1} is not at hand.`));
  const image = element("img", { src: `pictures/${name}`, alt: `Picture ${index + 1} of the question`, loading: "lazy" });
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 160));
  const stack = element("div", { class: "stack" }, image);
  const caption = element("figcaption");
  const made = element("figure", {}, stack);
  const queries = Object.entries(overlay?.queries ?? {});
  if (queries.length) {
    const choose = (chosen) => {
      for (const button of buttons.children) button.setAttribute("aria-pressed", String(button.dataset.of === (chosen?.[0] ?? "")));
      made.querySelectorAll("canvas").forEach((old) => old.remove());
      caption.replaceChildren("");
      made.classList.toggle("looked", Boolean(chosen));
      if (!chosen) return;
      const heat = { ...chosen[1], name: chosen[0] };
      const lines = element("canvas", { "aria-hidden": "true" });
      stack.append(lines);
      drawLines(lines, overlay, heat);
      made.insertBefore(heatMap(overlay, heat), caption);
      caption.replaceChildren(
        `${whose ? `${plain(whose)}: ` : ""}${(100 * heat.share).toFixed(1)} % of the attention of ${WHOSE[heat.name]} is on this picture. Lines: ${LEVELS.join(", ")} × what an even spread gives; at most ${number(heat.highest)} ×.`,
      );
    };
    const button = (text, chosen) =>
      element("button", { type: "button", "data-of": chosen?.[0] ?? "", onclick: () => choose(chosen) }, text);
    const names = { user: "seen from the question", response: "seen from the answer" };
    const buttons = element("div", { class: "switch", role: "group", "aria-label": "Attention over the picture" },
      button("picture", null), ...queries.map(([of, heat]) => button(names[of], [of, heat])));
    made.prepend(buttons);
    const first = () => choose(queries.find(([of]) => of === "response") ?? queries[0]);
    if (image.complete && image.naturalWidth) first();
    else image.addEventListener("load", first, { once: true });
  }
  made.append(caption);
  return made;
}

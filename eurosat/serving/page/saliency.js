// The saliency map: the loss of probability per cell, drawn smoothly over the picture.

const SIDE = 192; // pixels of the drawing
const FULL_SCALE = 0.05; // smallest loss that is drawn at full brightness

// Red, green, blue, opacity: from dark, where hiding a cell changes nothing, to bright, where hiding
// a cell lowers the probability most.
const RAMP = [
  [12, 10, 30, 0.45],
  [120, 28, 90, 0.45],
  [240, 110, 40, 0.5],
  [255, 236, 140, 0.75],
];

/**
 * Draw a map.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number[][]} cells loss of probability when a cell is hidden, rows from the top
 */
export function drawSaliency(canvas, cells) {
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  const values = smooth(cells);
  // Smoothing flattens peaks, so the highest value of the smooth map gets full brightness.
  const highest = values.reduce((a, b) => Math.max(a, b));
  const scale = highest * Math.max(1, FULL_SCALE / strongest(cells));
  values.forEach((value, at) => image.data.set(colour(scale > 0 ? value / scale : 0), 4 * at));
  context.putImageData(image, 0, 0);
}

/** Describe the map in a sentence. */
export function describeSaliency(cells, name) {
  const most = strongest(cells);
  if (most < 0.01) {
    return (
      `No single region decides: hiding any region lowers the probability of “${name}” by less ` +
      "than 1 percentage point."
    );
  }
  const points = Math.round(100 * most);
  return (
    `Hiding a bright region lowers the probability of “${name}”, by up to ` +
    `${points} percentage point${points === 1 ? "" : "s"} ${region(cells)}.`
  );
}

function smooth(cells) {
  const taps = Array.from({ length: SIDE }, (_, i) => spline(i, cells.length));
  const values = new Float32Array(SIDE * SIDE);
  for (let y = 0; y < SIDE; y += 1) {
    for (let x = 0; x < SIDE; x += 1) {
      for (const [row, down] of taps[y]) {
        for (const [column, across] of taps[x]) {
          values[y * SIDE + x] += down * across * cells[row][column];
        }
      }
    }
  }
  return values;
}

function strongest(cells) {
  return Math.max(...cells.flat());
}

function region(cells) {
  const flat = cells.flat();
  const at = flat.indexOf(Math.max(...flat));
  const third = (i) => Math.floor((3 * i) / cells.length);
  const row = ["top", "", "bottom"][third(Math.floor(at / cells.length))];
  const column = ["left", "", "right"][third(at % cells.length)];
  return row || column ? `at the ${[row, column].filter(Boolean).join(" ")}` : "in the middle";
}

// Cubic B-spline weights of the four cells around a pixel; the edge cells are repeated outside.
function spline(pixel, count) {
  const position = ((pixel + 0.5) / SIDE) * count - 0.5;
  const first = Math.floor(position);
  const t = position - first;
  const weights = [
    (1 - t) ** 3 / 6,
    (3 * t ** 3 - 6 * t ** 2 + 4) / 6,
    (-3 * t ** 3 + 3 * t ** 2 + 3 * t + 1) / 6,
    t ** 3 / 6,
  ];
  return weights.map((weight, i) => [Math.min(Math.max(first - 1 + i, 0), count - 1), weight]);
}

function colour(fraction) {
  const position = Math.min(Math.max(fraction, 0), 1) * (RAMP.length - 1);
  const lower = Math.min(Math.floor(position), RAMP.length - 2);
  const t = position - lower;
  const [red, green, blue, opacity] = RAMP[lower].map(
    (value, channel) => value + t * (RAMP[lower + 1][channel] - value),
  );
  return [red, green, blue, 255 * opacity];
}

// From a grey picture of one character to the answer of a network, without a server: what
// lib/data/cleanup.py, lib/data/emnist_format.py and lib/reading/recogniser.py do, in the same
// order and with the same numbers. No step touches the page that it runs in.

const SIZE = 28, BORDER = 2, BLUR = 1 / 128; // of lib/data/emnist_format.py
const EDGE = Math.fround(0.1);
const LARGEST = 768, MOST_PIECES = 7, LARGE = 0.2, FRAME = 1.6, SMOOTHED = 0.5; // of cleanup.py
const SEVERAL = "The image holds more than one character, or a text; give one with a single character.";
const NO_INK = "The image holds no ink: nothing in it stands out from the paper; give a character.";

class NoCharacter extends Error {}

const range = (n) => Array.from({ length: n }, (_, i) => i);
const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const total = (values) => values.reduce((a, b) => a + b, 0);

function median(values) {
  const sorted = Float64Array.from(values).sort();
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

// ---- a picture in grey: {data: 0 black to 1 white, height, width}

function inGrey({ data, width, height }) { // RGBA, as a canvas gives it
  const most = Math.max(width, height), shrunk = Math.min(1, LARGEST / most);
  const size = [width, height].map((side) => Math.max(1, Math.round(side * shrunk)));
  let pixels = range(3).map((channel) => Float64Array.from({ length: width * height }, (_, i) => {
    const alpha = data[4 * i + 3] / 255; // transparency lies on white
    return Math.round(data[4 * i + channel] * alpha + 255 * (1 - alpha));
  }));
  if (shrunk < 1) pixels = pixels.map((plane) => reduced(plane, width, height, ...size));
  const [red, green, blue] = pixels;
  const grey = Float32Array.from(red, (r, i) =>
    ((19595 * r + 38470 * green[i] + 7471 * blue[i] + 0x8000) >> 16) / 255);
  return { data: grey, width: size[0], height: size[1] };
}

function reduced(plane, width, height, newWidth, newHeight) { // means of boxes, columns first
  const boxes = (old, fresh) => range(fresh).map((at) => {
    const scale = old / fresh, centre = (at + 0.5) * scale;
    return [Math.floor(centre - scale / 2 + 0.5), Math.min(old, Math.floor(centre + scale / 2 + 0.5))];
  });
  const mean = (from, to, value) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum += value(i);
    return Math.round(sum / (to - from));
  };
  const columns = boxes(width, newWidth), rows = boxes(height, newHeight);
  const narrow = new Float64Array(height * newWidth), small = new Float64Array(newHeight * newWidth);
  for (let y = 0; y < height; y++)
    columns.forEach(([from, to], x) => { narrow[y * newWidth + x] = mean(from, to, (i) => plane[y * width + i]); });
  rows.forEach(([from, to], y) => {
    for (let x = 0; x < newWidth; x++) small[y * newWidth + x] = mean(from, to, (i) => narrow[i * newWidth + x]);
  });
  return small;
}

// ---- ink on bare paper

function paperOf({ data, width, height }) { // the quadratic surface that most pixels lie on
  const place = (i, n) => (i && i === n - 1 ? 1 : -1 + i * (2 / Math.max(1, n - 1))); // as numpy rounds
  const terms = (y, x) => [1, x, y, x * y, x * x, y * y];
  const step = Math.max(1, Math.floor(Math.max(width, height) / 64)), some = [], values = [];
  for (let y = 0; y < height; y += step)
    for (let x = 0; x < width; x += step) {
      some.push(terms(place(y, height), place(x, width)));
      values.push(data[y * width + x]);
    }
  const importance = some.map(([, x, y]) => (Math.max(Math.abs(x), Math.abs(y)) > 0.9 ? 4 : 1));
  const middle = median(values);
  let weights = values.map((value, i) => importance[i] / (0.02 + Math.abs(value - middle))), surface;
  const at = (row) => row.reduce((sum, term, i) => sum + term * surface[i], 0);
  for (let round = 0; round < 10; round++) {
    const matrix = range(6).map((i) => range(6).map((j) => (i === j ? 1e-6 : 0))), right = Array(6).fill(0);
    some.forEach((row, n) => {
      for (let i = 0; i < 6; i++) {
        const weighted = weights[n] * row[i];
        for (let j = 0; j < 6; j++) matrix[i][j] += weighted * row[j];
        right[i] += weighted * values[n];
      }
    });
    surface = solved(matrix, right);
    weights = values.map((value, i) => importance[i] / (0.005 + Math.abs(value - at(some[i]))));
  }
  return Float64Array.from({ length: width * height }, (_, i) =>
    at(terms(place(Math.floor(i / width), height), place(i % width, width))));
}

function solved(matrix, right) { // Gauss, with the largest pivot
  const n = right.length;
  for (let i = 0; i < n; i++) {
    const pivot = range(n).slice(i).reduce((a, b) => (Math.abs(matrix[b][i]) > Math.abs(matrix[a][i]) ? b : a));
    [matrix[i], matrix[pivot], right[i], right[pivot]] = [matrix[pivot], matrix[i], right[pivot], right[i]];
    for (let row = i + 1; row < n; row++) {
      const share = matrix[row][i] / matrix[i][i];
      for (let j = i; j < n; j++) matrix[row][j] -= share * matrix[i][j];
      right[row] -= share * right[i];
    }
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let j = i + 1; j < n; j++) right[i] -= matrix[i][j] * right[j];
    right[i] /= matrix[i][i];
  }
  return right;
}

function inkOf(contrast) { // 0 paper to 1 ink
  const noise = 1.4826 * median(contrast.map(Math.abs));
  if (contrast.reduce((sum, value) => sum + value ** 3, 0) < 0) contrast = contrast.map((value) => -value);
  const peak = inkLevel(contrast);
  if (peak < Math.max(6 * noise, 0.05)) throw new NoCharacter(NO_INK);
  const floor = Math.max(3 * noise, 0.2 * peak);
  return Float32Array.from(contrast, (value) => Math.min(1, Math.max(0, (value - floor) / (0.8 * peak - floor))));
}

function inkLevel(contrast) { // the mean of what Otsu's threshold counts as ink
  const values = contrast.map((value) => Math.max(0, value)).sort(), n = values.length, all = total(values);
  let below = 0, best = -1, cut = 0;
  for (let count = 1; count < n; count++) {
    below += values[count - 1];
    const between = count * (n - count) * (below / count - (all - below) / (n - count)) ** 2;
    if (between > best) [best, cut] = [between, count];
  }
  return total(values.subarray(cut)) / (n - cut);
}

function piecesOf(ink, width, height) { // touching ink, 8 neighbours: labels from 1, and a box of each
  const labels = new Int32Array(ink.length), pieces = [];
  for (let start = 0; start < ink.length; start++) {
    if (!(ink[start] > EDGE) || labels[start]) continue;
    const piece = { area: 0, top: height, bottom: 0, left: width, right: 0 }, waiting = [start];
    labels[start] = pieces.push(piece);
    while (waiting.length) {
      const i = waiting.pop(), y = Math.floor(i / width), x = i % width;
      piece.area += ink[i];
      Object.assign(piece, {
        top: Math.min(piece.top, y), bottom: Math.max(piece.bottom, y + 1),
        left: Math.min(piece.left, x), right: Math.max(piece.right, x + 1),
      });
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++)
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const next = v * width + u;
          if (ink[next] > EDGE && !labels[next]) {
            labels[next] = pieces.length;
            waiting.push(next);
          }
        }
    }
  }
  return [labels, pieces];
}

function ownInk(ink, width, height) { // without dust, ruled lines, neighbours, marks below
  const [labels, pieces] = piecesOf(ink, width, height);
  if (pieces.length < 2) return ink.map((value, i) => (labels[i] ? value : 0));
  const areas = pieces.map((piece) => piece.area), most = largest(areas), all = total(areas);
  const atEdge = pieces.map((one) => !one.top || !one.left || one.bottom === height || one.right === width);
  const inside = areas.map((area, i) => (atEdge[i] ? 0 : area));
  const chosen = largest(inside) > 0.15 * most ? inside : areas;
  const bodyAt = chosen.indexOf(largest(chosen)), body = pieces[bodyAt];
  const kept = pieces.map((one, i) => {
    const above = one.bottom <= body.top, below = one.top >= body.bottom, wide = one.right - one.left;
    const ruled = (above || below) && wide > 4 * (one.bottom - one.top) && wide > 1.3 * (body.right - body.left);
    return areas[i] >= 0.01 * all && !(below && areas[i] < 0.25 * areas[bodyAt]) && !ruled &&
      (atEdge[bodyAt] || !atEdge[i]);
  });
  checkAlone(pieces.filter((_, i) => kept[i]), areas.filter((area) => area > LARGE * most).length);
  return ink.map((value, i) => (labels[i] && kept[labels[i] - 1] ? value : 0));
}

function checkAlone(pieces, large) { // too many large pieces, or tall ones side by side, as in a word
  if (large > MOST_PIECES || !pieces.length) throw new NoCharacter(SEVERAL);
  const edge = (name, choose) => choose(...pieces.map((piece) => piece[name]));
  const height = edge("bottom", Math.max) - edge("top", Math.min);
  const width = edge("right", Math.max) - edge("left", Math.min);
  const tall = pieces.filter((one) => one.bottom - one.top > height / 2).sort((a, b) => a.left - b.left);
  const sideBySide = tall.length > 1 && tall.slice(1).every((one, i) => one.left >= tall[i].right);
  if (sideBySide && width > 0.75 * height) throw new NoCharacter(SEVERAL);
}

function framed(ink, width, height) { // smoothed, in the middle of a square of paper
  const inked = range(ink.length).filter((i) => ink[i] > EDGE);
  const ys = inked.map((i) => Math.floor(i / width)), xs = inked.map((i) => i % width);
  const top = -largest(ys.map((y) => -y)), left = -largest(xs.map((x) => -x));
  const high = largest(ys) - top + 1, wide = largest(xs) - left + 1;
  const side = Math.round(FRAME * Math.max(high, wide)) + 2;
  const down = Math.floor((side - high) / 2), across = Math.floor((side - wide) / 2);
  const square = new Float32Array(side * side);
  for (let y = 0; y < high; y++)
    for (let x = 0; x < wide; x++) square[(y + down) * side + x + across] = ink[(y + top) * width + x + left];
  const smooth = blurred(square, side, side, 1);
  return { data: blurred(smooth, side, 1, side), side };
}

function blurred(values, side, step, stride) { // a Gaussian along lines of `side` values, mirrored at the ends
  const reach = Math.floor(4 * SMOOTHED + 0.5), taps = range(2 * reach + 1).map((i) => i - reach);
  const raw = taps.map((tap) => Math.exp((-0.5 * tap * tap) / SMOOTHED ** 2)), all = total(raw);
  const mirrored = (i) => (i < 0 ? -i - 1 : i >= side ? 2 * side - 1 - i : i), out = new Float32Array(values.length);
  for (let line = 0; line < side; line++)
    for (let i = 0; i < side; i++) {
      let sum = 0;
      taps.forEach((tap, k) => { sum += (raw[k] / all) * values[line * stride + mirrored(i + tap) * step]; });
      out[line * stride + i * step] = sum;
    }
  return out;
}

// ---- EMNIST's conversion: blur, crop, centre, frame, resample

function toEmnist(ink, side) { // a square picture to 784 bytes
  const at = (y, x) => ink[y * side + x];
  const rows = range(side).map((y) => largest(range(side).map((x) => at(y, x))));
  const columns = range(side).map((x) => largest(range(side).map((y) => at(y, x))));
  const [top, bottom] = extent(rows), [left, right] = extent(columns);
  const step = Math.max(bottom - top, right - left) / (SIZE - 2 * BORDER), blur = blurMatrix(side, BLUR * side);
  const down = product(resampling(side, (top + bottom) / 2, step), blur, SIZE, side, side);
  const across = product(resampling(side, (left + right) / 2, step), blur, SIZE, side, side);
  const tall = product(down, ink, SIZE, side, side), small = new Float64Array(SIZE * SIZE);
  for (let y = 0; y < SIZE; y++)
    for (let x = 0; x < SIZE; x++) {
      let sum = 0;
      for (let i = 0; i < side; i++) sum += tall[y * side + i] * across[x * side + i];
      small[y * SIZE + x] = Math.max(0, sum);
    }
  const scale = 255 / Math.max(largest(small), 1e-6);
  return Uint8Array.from(small, (value) => Math.round(value * scale));
}

function extent(profile) {
  const level = 0.1 * largest(profile), inked = profile.map((value) => value > level);
  return [Math.max(0, inked.indexOf(true)), inked.lastIndexOf(true) + 1];
}

function product(a, b, n, m, k) { // (n, m) times (m, k), row by row
  const out = new Float64Array(n * k);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++) {
      const value = a[i * m + j];
      if (value) for (let l = 0; l < k; l++) out[i * k + l] += value * b[j * k + l];
    }
  return out;
}

function blurMatrix(size, sigma) {
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    const row = range(size).map((j) => Math.exp(-(((j - i) / Math.max(sigma, 1e-3)) ** 2) / 2)), all = total(row);
    row.forEach((value, j) => { matrix[i * size + j] = value / all; });
  }
  return matrix;
}

function resampling(size, centre, step) { // bicubic weights (a = -0.5), widened where it shrinks
  const matrix = new Float64Array(SIZE * size);
  for (let i = 0; i < SIZE; i++) {
    const fresh = (i + 0.5 - SIZE / 2) * step + centre;
    const row = range(size).map((j) => {
      const distance = Math.abs(fresh - (j + 0.5)) / Math.max(step, 1);
      const far = Math.max(0, 2 - distance), near = Math.max(0, 1 - distance);
      return ((far - 1) * far * far) / 2 + (1 - 2 * near) * near * near;
    });
    const all = Math.max(total(row), 1);
    row.forEach((value, j) => { matrix[i * size + j] = value / all; });
  }
  return matrix;
}

function converted(grey) { // the whole way; NoCharacter where the picture shows none
  const { data, width, height } = grey, paper = paperOf(grey);
  const own = ownInk(inkOf(Float64Array.from(data, (value, i) => value - paper[i])), width, height);
  const { data: square, side } = framed(own, width, height);
  return toEmnist(square, side);
}

// ---- the network

function unpacked(text) { // bytes of base64; [kind, at, n] names some of its numbers
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return ([kind, at, n]) => {
    if (kind === "float") return new Float32Array(bytes.buffer, at, n);
    if (kind === "byte") return Float32Array.from(new Int8Array(bytes.buffer, at, n));
    return Float32Array.from(new Uint16Array(bytes.buffer, at, n), (bits) => {
      const power = (bits >> 10) & 31, rest = bits & 1023;
      return (bits >> 15 ? -1 : 1) * (power ? (1 + rest / 1024) * 2 ** (power - 15) : rest * 2 ** -24);
    });
  };
}

const LAYERS = { // each takes pictures {data, c, h, w}: channels, height, width
  conv({ weight, bias, out, size, stride, pad }, input) {
    const { data, c, h, w } = LAYERS.pad({ pad }, input);
    const high = Math.floor((h - size) / stride) + 1, wide = Math.floor((w - size) / stride) + 1;
    const made = new Float32Array(out * high * wide);
    for (let o = 0; o < out; o++) {
      const plane = made.subarray(o * high * wide, (o + 1) * high * wide).fill(bias ? bias[o] : 0);
      for (let i = 0; i < c; i++)
        for (let v = 0; v < size; v++)
          for (let u = 0; u < size; u++) {
            const value = weight[((o * c + i) * size + v) * size + u];
            for (let y = 0, to = 0; y < high; y++) {
              let from = (i * h + y * stride + v) * w + u;
              for (let x = 0; x < wide; x++, from += stride) plane[to++] += value * data[from];
            }
          }
    }
    return { data: made, c: out, h: high, w: wide };
  },
  pad({ pad }, input) { // below zero: it cuts
    if (!pad) return input;
    const { data, c, h, w } = input, high = h + 2 * pad, wide = w + 2 * pad, made = new Float32Array(c * high * wide);
    for (let i = 0; i < c; i++)
      for (let y = Math.max(0, pad); y < Math.min(high, h + pad); y++)
        for (let x = Math.max(0, pad); x < Math.min(wide, w + pad); x++)
          made[(i * high + y) * wide + x] = data[(i * h + y - pad) * w + x - pad];
    return { data: made, c, h: high, w: wide };
  },
  affine({ scale, shift }, { data, ...shape }) { // batch norm, as it is after training
    const each = data.length / scale.length;
    return { data: data.map((value, i) => value * scale[Math.floor(i / each)] + shift[Math.floor(i / each)]), ...shape };
  },
  relu: (_, { data, ...shape }) => ({ data: data.map((value) => Math.max(0, value)), ...shape }),
  pool({ size }, { data, c, h, w }) {
    const high = Math.floor(h / size), wide = Math.floor(w / size), made = new Float32Array(c * high * wide).fill(-Infinity);
    for (let i = 0; i < c; i++)
      for (let y = 0; y < high * size; y++)
        for (let x = 0; x < wide * size; x++) {
          const to = (i * high + Math.floor(y / size)) * wide + Math.floor(x / size);
          made[to] = Math.max(made[to], data[(i * h + y) * w + x]);
        }
    return { data: made, c, h: high, w: wide };
  },
  mean(_, { data, c, h, w }) {
    const made = Float32Array.from({ length: c }, (_, i) => total(data.subarray(i * h * w, (i + 1) * h * w)) / (h * w));
    return { data: made, c, h: 1, w: 1 };
  },
  flatten(_, { data, c, h, w }) { // place by place, all channels of each
    const made = new Float32Array(c * h * w);
    for (let i = 0; i < c; i++) for (let at = 0; at < h * w; at++) made[at * c + i] = data[i * h * w + at];
    return { data: made, c: c * h * w, h: 1, w: 1 };
  },
  linear({ weight, bias, out }, { data }) {
    const made = Float32Array.from({ length: out }, (_, o) => {
      let sum = bias ? bias[o] : 0;
      for (let i = 0, at = o * data.length; i < data.length; i++) sum += weight[at + i] * data[i];
      return sum;
    });
    return { data: made, c: out, h: 1, w: 1 };
  },
  add: (_, { data, ...shape }, other) => ({ data: data.map((value, i) => value + other.data[i]), ...shape }),
};

function makeNetwork({ layers, packed, mean, std, temperature, ...about }) {
  const numbers = unpacked(packed), means = numbers(mean);
  const ready = layers.map(({ weight, steps, bias, scale, shift, ...rest }) => {
    const held = Object.fromEntries(Object.entries({ weight, steps, bias, scale, shift }).filter(([, at]) => at)
      .map(([name, at]) => [name, numbers(at)]));
    if (steps) { // whole numbers, times the step of their output
      const each = held.weight.length / held.steps.length;
      held.weight = held.weight.map((value, i) => value * held.steps[Math.floor(i / each)]);
    }
    return { ...rest, ...held };
  });
  function look(image) { // 784 bytes, upright, ink bright on 0: probabilities of classes, of refusals
    const values = [{ data: Float32Array.from(image, (value, i) => (value - means[i]) / std), c: 1, h: SIZE, w: SIZE }];
    for (const layer of ready) values.push(LAYERS[layer.op](layer, ...layer.from.map((at) => values[at])));
    const logits = Array.from(values.at(-1).data), n = about.classes.length;
    const every = softmax(logits), shares = softmax(logits.slice(0, n).map((value) => value / temperature));
    return [shares, every.slice(n)];
  }
  return { ...about, look };
}

function softmax(logits) {
  const most = largest(logits), powers = logits.map((value) => Math.exp(value - most)), all = total(powers);
  return powers.map((value) => value / all);
}

function answerOf(network, image) { // label, ranked alternatives, prediction set; refused: why it is no character
  const [shares, refusals] = network.look(image);
  const ranked = network.classes.map((name, i) => [name, shares[i]]).sort((a, b) => b[1] - a[1]);
  const refused = total(refusals) > network.refuseAbove ? network.refusals[refusals.indexOf(largest(refusals))] : "";
  let before = 0; // the mass of what is likelier
  const scores = ranked.map(([, share]) => {
    const score = network.byMass ? 1 - before : share;
    before += share;
    return score;
  });
  const set = ranked.filter((_, i) => scores[i] >= network.threshold).map(([name]) => name);
  return { label: ranked[0][0], ranked, set: set.length ? set : [ranked[0][0]], refused };
}

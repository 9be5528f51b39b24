// A square to draw in, and beside it what the networks of reader.js say to the drawing. Strokes are
// lists of points in shares of its side, so that no size of screen changes the drawing.

const SIDE = 256; // pixels a side of a drawing
const RIVAL = 0.05; // mean probability from which a second answer counts as one

const PEN = 0.075; // of the side: thinner strokes would vanish among 28 pixels
const HINT = "What the networks think appears here after each stroke. A photograph can be dropped on the canvas.";
const LABEL = "Drawing area: draw one character with mouse, pen or finger. Backspace takes the last stroke back, Escape clears.";

function trace(context, stroke, side) {
  const [first, ...rest] = stroke.map(([x, y]) => [x * side, y * side]);
  context.beginPath();
  context.moveTo(...first);
  context.lineTo(first[0] + 0.01, first[1]); // a line without any length would leave no dot
  let [x, y] = first;
  for (const [nextX, nextY] of rest) {
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    [x, y] = [nextX, nextY];
  }
  context.lineTo(x, y);
  context.stroke();
}

function draw(context, strokes, side, ink) {
  Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: PEN * side, strokeStyle: ink });
  for (const stroke of strokes) trace(context, stroke, side);
}

function pixelsOf(strokes) {
  const paper = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const context = paper.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, SIDE, SIDE);
  draw(context, strokes, SIDE, "black");
  return context.getImageData(0, 0, SIDE, SIDE);
}

async function pixelsOfFile(file) {
  const bitmap = await createImageBitmap(file); // obeys the orientation that a camera notes
  const paper = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  const context = paper.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

function element(parent, tag, className = "", text = "", attributes = {}) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function pictureOf(bytes) { // 784 bytes as the address of a PNG
  const paper = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
  const context = paper.getContext("2d"), image = context.createImageData(28, 28);
  bytes.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  context.putImageData(image, 0, 0);
  return paper.toDataURL();
}

// ---- words

const IN_WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
const inWords = (n) => IN_WORDS[n] ?? String(n);

function kind(name) { // what a class name does not show by itself; "" for names of several letters
  if ([...name].length !== 1) return "";
  if (/\p{Nd}/u.test(name)) return "digit";
  if (/\p{Lu}/u.test(name)) return "capital";
  return /\p{Ll}/u.test(name) ? "small letter" : "";
}

const withKind = (name) => (kind(name) ? `the ${kind(name)} ${name}` : name);

function chance(share) { // what rounding would make certain stays in doubt
  if (share < 0.01) return "<\u00a01\u00a0%";
  return share > 0.99 ? ">\u00a099\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
}

function sentence(answers) { // how many networks read what
  const counts = new Map();
  for (const { label } of answers) counts.set(label, (counts.get(label) ?? 0) + 1);
  const [[first, n], ...others] = [...counts].sort((a, b) => b[1] - a[1]);
  if (answers.length === 1) return `Read as ${withKind(first)}.`;
  if (!others.length) return `${n === 2 ? "Both" : `All ${inWords(n)}`} networks read ${withKind(first)}.`;
  const rest = others.map(([name, count]) => `, ${inWords(count)} ${withKind(name)}`).join("");
  const said = `${inWords(n)} of ${inWords(answers.length)} networks read${n === 1 ? "s" : ""} ${withKind(first)}${rest}.`;
  return said[0].toUpperCase() + said.slice(1);
}

function confusedPair(answers, groups) { // the two likeliest, if both are likely and in one group
  const means = new Map();
  for (const { ranked } of answers)
    for (const [name, share] of ranked) means.set(name, (means.get(name) ?? 0) + share / answers.length);
  const pair = [...means].sort((a, b) => b[1] - a[1]).slice(0, 2).filter(([, mean]) => mean >= RIVAL).map(([name]) => name);
  return pair.length === 2 && groups.some((group) => pair.every((name) => group.includes(name))) ? pair : [];
}

// ---- what is shown

function showCard(parent, { name, coverage }, { label, ranked, set, refused }) {
  const card = element(parent, "section", "hw-card", "", { "data-network": name, "aria-label": name });
  element(card, "p", "hw-name", name);
  if (refused) return void element(card, "p", "hw-note", refused);
  const top = element(card, "p", "hw-top"), bars = element(card, "ol", "hw-bars");
  element(top, "span", "hw-glyph", label);
  const about = element(top, "span", "hw-kind", kind(label));
  about.prepend(element(about, "strong", "", chance(ranked[0][1])));
  for (const [answer, share] of ranked.slice(0, 4)) {
    const bar = element(bars, "li");
    element(bar, "b", "", answer);
    element(element(bar, "div", "hw-track"), "i").style.width = `${(100 * share).toFixed(1)}%`;
    element(bar, "span", "", chance(share));
  }
  const held = element(card, "p", "hw-set", `${chance(coverage)} of such sets hold the right answer:`);
  element(held, "br");
  for (const answer of set.slice(0, 12)) held.append(element(held, "b", "", answer), " ");
  if (set.length > 12) held.append(`and ${set.length - 12} more`);
}

function showPair(parent, pair, { found, examples }) {
  const shown = element(parent, "div", "hw-pair");
  element(shown, "h4", "", `Is it ${withKind(pair[0])} or ${withKind(pair[1])}?`);
  const why = found
    ? "Trained networks were found to take these two for each other (05-confusions)."
    : "These two are a known confusion: seen alone, many cannot be told apart.";
  const rows = pair.filter((name) => examples[name]);
  element(shown, "p", "hw-note", rows.length ? `${why} Generated examples of both:` : why);
  for (const name of rows) {
    const row = element(shown, "div", "hw-row");
    element(row, "b", "", name);
    element(row, "small", "", kind(name));
    element(row, "img", "hw-tile", "", { alt: `Examples of ${withKind(name)}`, src: examples[name] });
  }
}

function showAnswers(details, image, networks, answers, data) {
  const given = element(details, "div", "hw-given");
  element(given, "img", "hw-tile", "", { alt: "The drawing as the networks get it", src: pictureOf(image) });
  element(given, "p", "hw-note",
    "This is all that the networks get: 28 × 28 pixels, cropped, centred, ink bright on black.");
  const cards = element(details, "div", "hw-cards");
  networks.forEach((network, i) => showCard(cards, network, answers[i]));
  const read = answers.filter(({ refused }) => !refused);
  if (read.length < answers.length && networks.some(({ refusals = [] }) => !refusals.length))
    element(details, "p", "hw-note", "Networks of a profile have not learned to refuse: they always name a character.");
  const pair = read.length === answers.length ? confusedPair(answers, data.groups) : [];
  if (pair.length) showPair(details, pair, data);
}

// ---- the canvas

function mount(el, data, drawn = () => {}) { // returns a function that takes it away
  const networks = data.networks.map(makeNetwork);
  const root = element(el, "div", "hw-drawing hw-empty");
  const pad = element(root, "div", "hw-pad");
  const paper = element(pad, "div", "hw-paper");
  const canvas = element(paper, "canvas", "hw-canvas", "", { tabindex: "0", role: "img", "aria-label": LABEL });
  element(paper, "p", "hw-hint", "Draw one character", { "aria-hidden": "true" });
  const buttons = element(pad, "div", "hw-buttons");
  const answer = element(root, "div", "hw-answer");
  const said = element(answer, "p", "hw-said", "", { role: "status" });
  const details = element(answer, "div", "hw-details");

  const strokes = [];
  let drawing = false, photo = null;

  function paint() {
    const side = Math.round(canvas.clientWidth * window.devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    if (photo) {
      const paper = Object.assign(document.createElement("canvas"), { width: photo.width, height: photo.height });
      paper.getContext("2d").putImageData(photo, 0, 0);
      const scale = side / Math.max(photo.width, photo.height), size = [photo.width * scale, photo.height * scale];
      context.drawImage(paper, (side - size[0]) / 2, (side - size[1]) / 2, ...size);
    }
    draw(context, strokes, side, getComputedStyle(canvas).color);
    root.classList.toggle("hw-empty", !strokes.length && !photo);
  }

  function look() {
    paint();
    said.textContent = "";
    details.replaceChildren();
    const pixels = photo ?? (strokes.length ? pixelsOf(strokes) : null);
    drawn(pixels);
    if (!pixels) return void element(details, "p", "hw-note", HINT);
    let image;
    try {
      image = converted(inGrey(pixels));
    } catch (problem) {
      if (!(problem instanceof NoCharacter)) throw problem;
      said.textContent = "This is not a character.";
      return void element(details, "p", "", problem.message);
    }
    const answers = networks.map((network) => answerOf(network, image));
    // the first network has learned to refuse
    said.textContent = answers[0].refused ? "This is not a character." : sentence(answers.filter(({ refused }) => !refused));
    if (answers[0].refused) element(details, "p", "", answers[0].refused);
    showAnswers(details, image, networks, answers, data);
  }

  function undo() {
    if (photo) photo = null;
    else strokes.pop();
    look();
  }

  function clear() {
    photo = null;
    strokes.length = 0;
    look();
  }

  async function take(file) {
    if (!file) return;
    clear();
    try {
      photo = await pixelsOfFile(file);
    } catch {
      said.textContent = "This file cannot be read as an image; choose a PNG or a JPEG.";
      return;
    }
    look();
  }

  function add(event) {
    const box = canvas.getBoundingClientRect();
    const events = event.getCoalescedEvents?.() ?? [];
    for (const { clientX, clientY } of events.length ? events : [event]) {
      strokes.at(-1).push([(clientX - box.left) / box.width, (clientY - box.top) / box.height]);
    }
  }

  function begin(event) {
    if (!event.isPrimary || event.button) return;
    if (photo) clear();
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    strokes.push([]);
    add(event);
    paint();
  }

  function move(event) {
    if (!drawing || !event.isPrimary) return;
    add(event);
    paint();
  }

  function end(event) {
    if (!drawing || !event.isPrimary) return;
    drawing = false;
    look();
  }

  function key(event) {
    const action = { Backspace: undo, Escape: clear }[event.key];
    if (action) action();
    if (action || event.key.length === 1) event.stopPropagation(); // JupyterLab takes single letters for commands
  }

  function drop(event) {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  }

  for (const [text, press] of [["Undo", undo], ["Clear", clear]])
    element(buttons, "button", "hw-button", text, { type: "button" }).addEventListener("click", press);
  const chooser = element(buttons, "input", "hw-file", "", { type: "file", accept: "image/*", "aria-label": "Photograph of one character" });
  chooser.addEventListener("change", () => take(chooser.files[0]).then(() => { chooser.value = ""; }));
  element(buttons, "button", "hw-button", "Photo …", { type: "button" }).addEventListener("click", () => chooser.click());
  const listeners = { pointerdown: begin, pointermove: move, pointerup: end, pointercancel: end, keydown: key };
  for (const [name, listener] of Object.entries(listeners)) canvas.addEventListener(name, listener);
  pad.addEventListener("dragover", (event) => event.preventDefault());
  pad.addEventListener("drop", drop);
  const resized = new ResizeObserver(paint);
  const themed = new MutationObserver(paint); // JupyterLab notes its theme at the body
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  resized.observe(canvas);
  themed.observe(document.body, { attributes: true });
  dark.addEventListener("change", paint);
  look();
  return () => {
    resized.disconnect();
    themed.disconnect();
    dark.removeEventListener("change", paint);
    root.remove();
  };
}

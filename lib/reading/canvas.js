// A square to draw in. Strokes are lists of points in shares of its side, so that no size of screen changes the drawing.

const PEN = 0.075; // of the side: thinner strokes would vanish among 28 pixels
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

function greyOf(strokes, side) {
  const paper = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = paper.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  draw(context, strokes, side, "black");
  const colours = context.getImageData(0, 0, side, side).data;
  return Uint8Array.from({ length: side * side }, (_, pixel) => colours[4 * pixel]);
}

function element(parent, tag, className, attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function button(parent, text, press) {
  const made = element(parent, "button", "hw-button", { type: "button" });
  made.textContent = text;
  made.addEventListener("click", press);
}

function render({ model, el }) {
  const root = element(el, "div", "hw-drawing");
  const pad = element(root, "div", "hw-pad");
  const paper = element(pad, "div", "hw-paper");
  const canvas = element(paper, "canvas", "hw-canvas", { tabindex: "0", role: "img", "aria-label": LABEL });
  element(paper, "p", "hw-hint", { "aria-hidden": "true" }).textContent = "Draw one character";
  const buttons = element(pad, "div", "hw-buttons");
  const answer = element(root, "div", "hw-answer");
  const said = element(answer, "p", "hw-said", { role: "status" });
  const details = element(answer, "div", "hw-details");

  const strokes = [];
  let drawing = false;

  function paint() {
    const side = Math.round(canvas.clientWidth * window.devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    draw(context, strokes, side, getComputedStyle(canvas).color);
    root.classList.toggle("hw-empty", !strokes.length);
  }

  function send() {
    paint();
    const grey = strokes.length ? greyOf(strokes, model.get("side")) : new Uint8Array();
    model.set("drawing", new DataView(grey.buffer));
    model.save_changes();
  }

  function undo() {
    strokes.pop();
    send();
  }

  function clear() {
    strokes.length = 0;
    send();
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
    send();
  }

  function key(event) {
    const action = { Backspace: undo, Escape: clear }[event.key];
    if (action) action();
    if (action || event.key.length === 1) event.stopPropagation(); // JupyterLab takes single letters for commands
  }

  const show = () => {
    said.textContent = model.get("said");
    details.innerHTML = model.get("details");
  };

  button(buttons, "Undo", undo);
  button(buttons, "Clear", clear);
  for (const [name, listener] of Object.entries({ pointerdown: begin, pointermove: move, pointerup: end, pointercancel: end, keydown: key })) {
    canvas.addEventListener(name, listener);
  }
  model.on("change:said change:details", show);
  const resized = new ResizeObserver(paint);
  const themed = new MutationObserver(paint); // JupyterLab notes its theme at the body
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  resized.observe(canvas);
  themed.observe(document.body, { attributes: true });
  dark.addEventListener("change", paint);
  show();
  paint();
  return () => {
    model.off("change:said change:details", show);
    resized.disconnect();
    themed.disconnect();
    dark.removeEventListener("change", paint);
  };
}

export default { render };

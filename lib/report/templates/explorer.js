"use strict";
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const { classes, networks, columns, called } = data;
  const byId = (id) => document.getElementById(id);
  const canvas = byId("matrix"), chosen = { network: Object.keys(called).find((name) => name in networks), actual: 0, predicted: 0 };
  const FEW = 6, PAIRS = 10;

  const cell = (actual, predicted) => actual * classes.length + predicted;
  const count = (actual, predicted) => networks[chosen.network].counts[cell(actual, predicted)] || 0;
  const total = (actual) => classes.reduce((sum, _, predicted) => sum + count(actual, predicted), 0);
  const times = (n) => n.toLocaleString("en");

  function element(name, text = "", attributes = {}) {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function mistakes() {  // [actual, predicted, count], the most frequent first
    const all = Object.entries(networks[chosen.network].counts).map(([key, n]) => [Math.floor(key / classes.length), key % classes.length, n]);
    return all.filter(([actual, predicted]) => actual !== predicted).sort((a, b) => b[2] - a[2]);
  }

  function answersTo(actual) {  // labels by how often they were read, wrong ones first
    return classes.map((_, label) => label).sort((a, b) => (a === actual) - (b === actual) || count(actual, b) - count(actual, a));
  }

  function fillSelects() {
    byId("actual").replaceChildren(...classes.map((name, label) => element("option", name, { value: label })));
    const order = answersTo(chosen.actual), read = element("optgroup", "", { label: "its answers" }), never = element("optgroup", "", { label: "never" });
    for (const label of order) {
      const n = count(chosen.actual, label), option = element("option", n ? `${classes[label]} (${times(n)})` : classes[label], { value: label });
      (n ? read : never).append(option);
    }
    byId("predicted").replaceChildren(...[read, never].filter((group) => group.children.length));
    for (const name of ["network", "actual", "predicted"]) byId(name).value = chosen[name];
  }

  function fillPairs() {
    byId("pairs").replaceChildren(...mistakes().slice(0, PAIRS).map(([actual, predicted, n]) => {
      const pressed = actual === chosen.actual && predicted === chosen.predicted;
      const button = element("button", "", { type: "button", "aria-pressed": pressed, "aria-label": `${classes[actual]} read as ${classes[predicted]}, ${times(n)}` });
      button.append(element("span", `${classes[actual]} → ${classes[predicted]}`, { class: "class" }), " ", element("small", times(n)));
      button.addEventListener("click", () => choose({ actual, predicted }, ".pairs [aria-pressed=true]"));
      return button;
    }));
  }

  function row(actual, predicted, most, heading) {
    const flat = networks[chosen.network].images[cell(actual, predicted)] || [], list = element("ul", "", { class: "glyphs" });
    for (let i = 0; i < flat.length && i < 2 * most; i += 2) {
      const item = element("li"), label = `${classes[actual]}, read as ${classes[predicted]}, ${flat[i + 1]} % sure`;
      const glyph = element("span", "", { class: "glyph", role: "img", "aria-label": label });
      glyph.style.setProperty("--x", flat[i] % columns);
      glyph.style.setProperty("--y", Math.floor(flat[i] / columns));
      item.append(glyph, element("span", `${flat[i + 1]} %`));
      list.append(item);
    }
    return flat.length ? [element("h3", heading), list] : [];
  }

  function showPictures() {
    const { actual, predicted } = chosen, n = count(actual, predicted), of = total(actual);
    const told = byId("told"), bold = (text) => element("b", text, { class: "class" });
    const wrong = (n === 1 ? " was read " : " were read ") + (actual === predicted ? "right" : "as ");
    told.replaceChildren(`${n ? times(n) : "None"} of the ${times(of)} images of `, bold(classes[actual]), wrong, ...(actual === predicted ? [] : [bold(classes[predicted])]), ".");
    const pictures = row(actual, predicted, Infinity, "How sure the network was of it:");
    if (actual !== predicted) {
      pictures.push(...row(actual, actual, FEW, `For comparison: ${classes[actual]}, read right`));
      pictures.push(...row(predicted, predicted, FEW, `and ${classes[predicted]}, read right`));
    }
    byId("pictures").replaceChildren(...pictures);
  }

  function layout() {
    const side = canvas.clientWidth, margin = side > 380 ? 24 : 18;
    return { side, margin, step: (side - margin) / classes.length };
  }

  function drawMatrix() {
    const { side, margin, step } = layout(), ratio = window.devicePixelRatio || 1, style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim(), brush = canvas.getContext("2d");
    canvas.width = canvas.height = Math.round(side * ratio);
    brush.scale(ratio, ratio);
    brush.fillStyle = color("--tint");
    brush.fillRect(margin, margin, side - margin, side - margin);
    brush.fillStyle = color("--rule");
    brush.fillRect(margin, margin + chosen.actual * step, side - margin, step);
    brush.fillRect(margin + chosen.predicted * step, margin, step, side - margin);
    const shares = mistakes().map(([actual, predicted, n]) => [actual, predicted, n / total(actual)]), most = Math.max(...shares.map((one) => one[2]), 0.01);
    brush.fillStyle = color("--muted");
    classes.forEach((_, label) => brush.fillRect(margin + (label + 0.38) * step, margin + (label + 0.38) * step, step * 0.24, step * 0.24));
    brush.fillStyle = color("--accent");
    for (const [actual, predicted, share] of shares) {
      brush.globalAlpha = 0.12 + 0.88 * Math.sqrt(share / most);
      brush.fillRect(margin + predicted * step + 0.5, margin + actual * step + 0.5, Math.max(step - 1, 1), Math.max(step - 1, 1));
    }
    brush.globalAlpha = 1;
    brush.strokeStyle = color("--ink");
    brush.lineWidth = 2;
    brush.strokeRect(margin + chosen.predicted * step - 1, margin + chosen.actual * step - 1, step + 2, step + 2);
    drawNames(brush, color, margin, step);
  }

  function drawNames(brush, color, margin, step) {
    if (classes.some((name) => name.length > 2)) return;  // words have no room; the sentence beside says them
    const every = Math.ceil(8 / step), size = Math.min(13, Math.max(8, step));
    brush.textAlign = "center";
    brush.textBaseline = "middle";
    for (const [axis, own] of [["x", chosen.predicted], ["y", chosen.actual]]) {
      classes.forEach((name, label) => {
        if (label !== own && (label % every || Math.abs(label - own) * step < 11)) return;
        const along = margin + (label + 0.5) * step, across = margin / 2;
        brush.font = label === own ? "bold 14px ui-monospace, Menlo, Consolas, monospace" : `${size}px ui-monospace, Menlo, Consolas, monospace`;
        brush.fillStyle = color(label === own ? "--ink" : "--muted");
        brush.fillText(name, axis === "x" ? along : across, axis === "x" ? across : along);
      });
    }
  }

  function pointedAt(event) {  // the nearest confusion within reach of a finger, or else the very cell
    const { margin, step } = layout(), box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left - margin) / step - 0.5, y = (event.clientY - box.top - margin) / step - 0.5;
    const within = (value) => Math.min(classes.length - 1, Math.max(0, Math.round(value)));
    const distance = ([actual, predicted]) => Math.hypot(actual - y, predicted - x);
    const near = mistakes().filter((one) => distance(one) * step < (event.pointerType === "touch" ? 14 : 0.71 * step));
    const [actual, predicted] = near.sort((a, b) => distance(a) - distance(b))[0] || [within(y), within(x)];
    return { actual, predicted };
  }

  function choose(change, focus) {
    Object.assign(chosen, change);
    if ("actual" in change && !("predicted" in change)) chosen.predicted = answersTo(chosen.actual)[0];
    fillSelects();
    fillPairs();
    showPictures();
    drawMatrix();
    if (focus) document.querySelector(focus)?.focus();
  }

  byId("network").replaceChildren(...Object.keys(called).filter((name) => name in networks).map((name) => element("option", called[name], { value: name })));
  byId("network").addEventListener("change", (event) => choose({ network: event.target.value }));
  byId("actual").addEventListener("change", (event) => choose({ actual: Number(event.target.value) }));
  byId("predicted").addEventListener("change", (event) => choose({ predicted: Number(event.target.value) }));
  byId("swap").addEventListener("click", () => choose({ actual: chosen.predicted, predicted: chosen.actual }));
  canvas.addEventListener("click", (event) => choose(pointedAt(event)));
  canvas.addEventListener("pointermove", (event) => {
    const { actual, predicted } = pointedAt(event);
    byId("pointed").textContent = `${classes[actual]} read as ${classes[predicted]}: ${times(count(actual, predicted))} of ${times(total(actual))}`;
  });
  canvas.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const moved = (label, by) => (label + by + classes.length) % classes.length;
    choose({ actual: moved(chosen.actual, down), predicted: moved(chosen.predicted, right) });
  });
  window.addEventListener("resize", drawMatrix);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMatrix);
  const [actual, predicted] = mistakes()[0] || [0, 0];
  choose({ actual, predicted });
})();

"use strict";
(() => {
  const byId = (id) => document.getElementById(id), root = byId("explorer"), map = byId("map");
  const { classes, networks, columns, sprite } = JSON.parse(byId("explorer-data").textContent);
  const chosen = { network: 0, actual: 0, predicted: 0 }, FEW = 6, PAIRS = 10, N = classes.length;
  const cell = (actual, predicted) => actual * N + predicted;
  const count = (actual, predicted) => networks[chosen.network].counts[cell(actual, predicted)] || 0;
  const total = (actual) => classes.reduce((sum, _, predicted) => sum + count(actual, predicted), 0);
  const number = (n) => n.toLocaleString("en");

  function element(name, text = "", attributes = {}) {
    const made = document.createElement(name);
    made.append(text);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function mistakes() {  // [actual, predicted, count], the most frequent first
    return Object.entries(networks[chosen.network].counts).map(([key, n]) => [Math.floor(key / N), key % N, n])
      .filter(([actual, predicted]) => actual !== predicted).sort((a, b) => b[2] - a[2]);
  }

  function answersTo(actual) {  // labels by how often they were read, wrong ones first
    return classes.map((_, label) => label).sort((a, b) => (a === actual) - (b === actual) || count(actual, b) - count(actual, a));
  }

  function fillSelects() {
    byId("actual").replaceChildren(...classes.map((name, label) => element("option", name, { value: label })));
    byId("predicted").replaceChildren(...answersTo(chosen.actual).map((label) => {
      const n = count(chosen.actual, label);
      return element("option", n ? `${classes[label]} (${number(n)})` : classes[label], { value: label });
    }));
    for (const name of ["network", "actual", "predicted"]) byId(name).value = chosen[name];
  }

  function fillPairs() {
    byId("pairs").replaceChildren(...mistakes().slice(0, PAIRS).map(([actual, predicted, n]) => {
      const button = element("button", element("span", `${classes[actual]} → ${classes[predicted]}`, { class: "class" }), {
        type: "button", "aria-pressed": actual === chosen.actual && predicted === chosen.predicted,
        "aria-label": `${classes[actual]} read as ${classes[predicted]}, ${number(n)}` });
      button.append(` ${number(n)}`);
      button.addEventListener("click", () => choose({ actual, predicted }, "#pairs [aria-pressed=true]"));
      return button;
    }));
  }

  function row(actual, predicted, most, heading) {
    const flat = networks[chosen.network].images[cell(actual, predicted)] || [], list = element("ul", "", { class: "glyphs" });
    for (let i = 0; i < flat.length && i < 2 * most; i += 2) {
      const label = `${classes[actual]}, read as ${classes[predicted]}, ${flat[i + 1]} % sure`;
      const glyph = element("span", "", { class: "glyph", role: "img", "aria-label": label });
      glyph.style.setProperty("--x", flat[i] % columns);
      glyph.style.setProperty("--y", Math.floor(flat[i] / columns));
      const item = element("li", glyph);
      item.append(`${flat[i + 1]} %`);
      list.append(item);
    }
    if (!flat.length) return [];
    const part = element("div", element("h3", heading));
    part.append(list);
    return [part];
  }

  function showPictures() {
    const { actual, predicted } = chosen, n = count(actual, predicted), bold = (label) => element("b", classes[label], { class: "class" });
    const verb = (n === 1 ? " was read " : " were read ") + (actual === predicted ? "right" : "as ");
    byId("told").replaceChildren(`${n ? number(n) : "None"} of the ${number(total(actual))} images of `, bold(actual), verb, ...(actual === predicted ? [] : [bold(predicted)]), ".");
    const pictures = row(actual, predicted, Infinity, "How sure the network was:");
    if (actual !== predicted) pictures.push(...row(actual, actual, FEW, `${classes[actual]}, read right`), ...row(predicted, predicted, FEW, `${classes[predicted]}, read right`));
    byId("pictures").replaceChildren(...pictures);
  }

  function drawMap() {  // every class labelled, a cell per confusion; the root brings small shares out
    const shares = mistakes().map(([actual, predicted, n]) => [actual, predicted, n / total(actual)]);
    const most = Math.max(0.01, ...shares.map((one) => one[2])), shade = (share) => Math.round(12 + 88 * Math.sqrt(share / most));
    const table = element("table", "", classes.some((name) => name.length > 2) ? { class: "words" } : {});
    const head = table.createTHead().insertRow(), body = table.createTBody();
    head.append(element("th"), ...classes.map((name) => element("th", element("span", name))));
    for (const name of classes) body.insertRow().append(element("th", element("span", name)), ...classes.map(() => element("td")));
    classes.forEach((_, label) => body.rows[label].cells[label + 1].classList.add("right"));
    for (const [actual, predicted, share] of shares) body.rows[actual].cells[predicted + 1].style.setProperty("--share", shade(share));
    map.replaceChildren(table);
    root.querySelector(".more").hidden = map.scrollWidth <= map.clientWidth;
    byId("key").replaceChildren("Share of the actual class:", ...[most / 16, most / 4, most].flatMap((share) => {
      const step = element("span", "", { class: "step" });
      step.style.setProperty("--share", shade(share));
      return [step, `${(100 * share).toPrecision(2)} %`];
    }), "; a dot marks what was read right.");
  }

  function markCell() {
    for (const old of map.querySelectorAll(".own")) old.classList.remove("own");
    const [head, ...rows] = map.querySelectorAll("tr"), { actual, predicted } = chosen;
    for (const one of [head.cells[predicted + 1], rows[actual].cells[0], rows[actual].cells[predicted + 1]]) one.classList.add("own");
    const at = rows[actual].cells[predicted + 1], side = rows[actual].cells[0].offsetWidth;
    const near = (begin, start, size, room) => (start < begin + side ? start - side : start + size > begin + room ? start + size - room : begin);
    map.scrollTo(near(map.scrollLeft, at.offsetLeft, at.offsetWidth, map.clientWidth), near(map.scrollTop, at.offsetTop, at.offsetHeight, map.clientHeight));
  }

  function choose(change, focus) {
    Object.assign(chosen, change);
    if ("actual" in change && !("predicted" in change)) chosen.predicted = answersTo(chosen.actual)[0];
    if ("network" in change) drawMap();
    fillSelects();
    fillPairs();
    showPictures();
    markCell();
    if (focus) root.querySelector(focus)?.focus();
  }

  function pointedAt(event) {
    const td = event.target.closest("td");
    return td && { actual: td.parentNode.rowIndex - 1, predicted: td.cellIndex - 1 };
  }

  root.style.setProperty("--n", N);
  root.style.setProperty("--columns", columns);
  if (sprite) root.style.setProperty("--sprite", `url(${sprite})`);
  byId("network").replaceChildren(...networks.map(({ name }, place) => element("option", name, { value: place })));
  for (const name of ["network", "actual", "predicted"]) byId(name).addEventListener("change", (event) => choose({ [name]: Number(event.target.value) }));
  byId("swap").addEventListener("click", () => choose({ actual: chosen.predicted, predicted: chosen.actual }));
  map.addEventListener("click", (event) => pointedAt(event) && choose(pointedAt(event)));
  map.addEventListener("pointermove", (event) => {
    const at = pointedAt(event);
    if (at) byId("pointed").textContent = `${classes[at.actual]} read as ${classes[at.predicted]}: ${number(count(at.actual, at.predicted))} of ${number(total(at.actual))}`;
  });
  map.addEventListener("keydown", (event) => {
    const move = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (!move) return;
    event.preventDefault();
    choose({ actual: (chosen.actual + move[0] + N) % N, predicted: (chosen.predicted + move[1] + N) % N });
  });
  const [actual, predicted] = mistakes()[0] || [0, 0];
  choose({ network: 0, actual, predicted });
})();

"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const clamp = (v, lo, hi) => Math.min(Math.max(v, lo), hi);
  const data = JSON.parse(one("#data").textContent);

  // ---- the table: press a heading to sort, best first; press again to reverse
  function sortBy(button) {
    const head = button.closest("th"), row = head.parentNode, column = [...row.children].indexOf(head);
    const flip = { ascending: "descending", descending: "ascending" };
    const way = flip[head.getAttribute("aria-sort")] || button.dataset.best;
    all("th", row).forEach((th) => th.setAttribute("aria-sort", th === head ? way : "none"));
    const sign = way === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      const x = a.children[column].dataset.v ?? "", y = b.children[column].dataset.v ?? "";
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
    };
    const body = one("tbody", head.closest("table"));
    body.append(...all("tr", body).sort(compare));
  }
  all("thead button").forEach((b) => b.addEventListener("click", () => sortBy(b)));

  // ---- one tooltip for heatmaps and curves
  const tip = one("#tip");
  function say(text, event) {
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = clamp(event.clientX + 14, 4, innerWidth - tip.offsetWidth - 4) + "px";
    tip.style.top = clamp(event.clientY - 34, 4, innerHeight - tip.offsetHeight - 4) + "px";
  }
  const hush = () => { tip.hidden = true; };

  all("img[data-ranks]").forEach((img) => {
    const ranks = img.dataset.ranks.split(" ").map(Number), h = +img.dataset.h, w = +img.dataset.w;
    img.addEventListener("pointermove", (event) => {
      const box = img.getBoundingClientRect();
      const r = clamp(Math.floor((event.clientY - box.top) / box.height * h), 0, h - 1);
      const c = clamp(Math.floor((event.clientX - box.left) / box.width * w), 0, w - 1);
      const rank = Math.round(10 * (ranks[r * w + c] + 1)) / 10;
      say(`row ${r + 1}, column ${c + 1}: number ${rank} of ${img.dataset.l}`, event);
    });
    img.addEventListener("pointerleave", hush);
  });

  // ---- curves: read the nearest line; keep pressed names in front
  const wides = all(".wide"), keys = all(".keys button");
  const pinned = () => new Set(keys.filter((k) => k.getAttribute("aria-pressed") === "true").map((k) => k.dataset.order));
  function highlight(order) {
    const chosen = pinned();
    if (order) chosen.add(order);
    wides.forEach((wide) => { // a section fades the others only where it has a line of that name
      const parts = all("[data-order]", wide);
      parts.forEach((part) => part.classList.toggle("hot", chosen.has(part.dataset.order)));
      wide.classList.toggle("focus", parts.some((part) => part.matches(".hot")));
      all(".line.hot", wide).forEach((line) => one(".at", line.parentNode).before(line));
    });
  }
  all(".tag").forEach((tag) => {
    tag.addEventListener("pointerenter", () => highlight(tag.dataset.order));
    tag.addEventListener("pointermove", (event) => event.stopPropagation());
    tag.addEventListener("pointerleave", () => highlight());
  });
  keys.forEach((key) => {
    key.addEventListener("click", () => {
      key.setAttribute("aria-pressed", key.getAttribute("aria-pressed") !== "true");
      highlight();
    });
    for (const type of ["pointerenter", "focus"]) key.addEventListener(type, () => highlight(key.dataset.order));
    for (const type of ["pointerleave", "blur"]) key.addEventListener(type, () => highlight());
  });

  function nearest(svg, at) {
    let best = null;
    for (const line of all("polyline.line", svg)) {
      const points = [...line.points];
      const p = points.reduce((a, b) => (Math.abs(b.x - at.x) < Math.abs(a.x - at.x) ? b : a));
      const far = Math.abs(p.y - at.y);
      if (!best || far < best.far) best = { p, far, line };
    }
    return best;
  }
  all("svg.chart").forEach((svg) => {
    const [x0, x1, y0, y1, top] = svg.dataset.frame.split(" ").map(Number), dot = one(".at", svg);
    const inFront = svg.closest(".wide");
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const found = nearest(svg, at);
      if (!found) return;
      dot.setAttribute("cx", found.p.x);
      dot.setAttribute("cy", found.p.y);
      dot.removeAttribute("hidden");
      const x = (found.p.x - x0) / (x1 - x0), y = (found.p.y - y0) / (y1 - y0) * top;
      say(`${found.line.dataset.order}: ${y.toFixed(+svg.dataset.digits - 1)} at ${Math.round(100 * x)} %`, event);
      if (inFront) highlight(found.line.dataset.order);
    });
    svg.addEventListener("pointerleave", () => {
      dot.setAttribute("hidden", "");
      hush();
      if (inFront) highlight();
    });
  });

  // ---- the modes of one head, for one image: every window moves to the image's column
  const head = one("#modes-head"), shown = one("#modes-image");
  function choose() {
    all(".modes").forEach((group) => { group.hidden = group.dataset.head !== head.value; });
    all(".window use").forEach((use) => use.setAttribute("x", -shown.value * use.dataset.pitch));
  }
  if (head) {
    one(".choice").hidden = false;
    [head, shown].forEach((select) => select.addEventListener("change", choose));
    choose(); // a browser may have kept what was chosen before the page was loaded again
  }

  // ---- the gallery
  if (!data.orders.length) return;
  const slider = one("#step"), readout = one("#at"), play = one("#play"), outline = one("#outline");
  const [h, w] = data.grid, steps = Math.max(...data.orders.map((o) => o.T)), ratio = Math.max(1, Math.round(devicePixelRatio));
  let image = 0, timer = 0;
  slider.max = steps;
  slider.value = Math.max(1, Math.round(steps * 0.6));

  function prepare(canvas, order, side) {
    const scale = Math.max(1, Math.round(side * ratio / order.size[1]));
    canvas.width = order.size[1] * scale;
    canvas.height = order.size[0] * scale;
    canvas.style.width = `${canvas.width / ratio}px`;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    return context;
  }
  function frame(context, order, index, row) {
    const [H, W] = order.size;
    context.drawImage(order.picture, index * W, row * H, W, H, 0, 0, context.canvas.width, context.canvas.height);
  }
  function edges(context, cells, step) { // the outer border of the cells that this step drew
    const cw = context.canvas.width / w, ch = context.canvas.height / h;
    const drawn = (r, c) => r >= 0 && r < h && c >= 0 && c < w && cells[r * w + c] === step;
    const t = Math.max(1, Math.round(context.canvas.width / 96));
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--mark");
    cells.forEach((s, i) => {
      if (s !== step) return;
      const r = Math.floor(i / w), c = i % w, x = Math.round(c * cw), y = Math.round(r * ch);
      if (!drawn(r - 1, c)) context.fillRect(x, y, cw, t);
      if (!drawn(r + 1, c)) context.fillRect(x, Math.round(y + ch) - t, cw, t);
      if (!drawn(r, c - 1)) context.fillRect(x, y, t, ch);
      if (!drawn(r, c + 1)) context.fillRect(Math.round(x + cw) - t, y, t, ch);
    });
  }
  function paint() {
    const part = slider.value / steps;
    readout.textContent = `step ${slider.value} of ${steps}`;
    slider.setAttribute("aria-valuetext", readout.textContent);
    for (const order of data.orders) {
      const step = clamp(Math.round(part * order.T), 1, order.T);
      frame(order.context, order, image, clamp(Math.round(part * order.frames), 1, order.frames) - 1);
      if (outline.checked && order.cells && step < order.T) edges(order.context, order.cells[image], step - 1);
      const stat = [];
      if (order.p) stat.push(`p ${order.p[image][step - 1].toFixed(2)}`);
      if (order.counts) stat.push(`${order.counts[step - 1]}/${h * w}`);
      order.stat.textContent = stat.join(" · ");
    }
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  function start() {
    if (+slider.value >= steps) slider.value = 1;
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      slider.value = +slider.value + 1;
      paint();
      if (+slider.value >= steps) stop();
    }, clamp(4000 / steps, 60, 260));
    paint();
  }
  function picker() {
    const order = data.orders.find((o) => o.baseline) || data.orders[0];
    data.images.forEach((name, i) => {
      const label = document.createElement("label"), radio = document.createElement("input");
      const canvas = document.createElement("canvas"), text = document.createElement("span");
      Object.assign(radio, { type: "radio", name: "image", value: i, checked: i === 0 });
      radio.addEventListener("change", () => { image = i; paint(); });
      canvas.setAttribute("aria-hidden", "true");
      text.textContent = name;
      label.append(radio, canvas, text);
      one("#picker").append(label);
      frame(prepare(canvas, order, 64), order, i, order.frames - 1);
    });
  }

  slider.addEventListener("input", () => { stop(); paint(); });
  outline.addEventListener("change", paint);
  play.addEventListener("click", () => (timer ? stop() : start()));
  one("#gallery").addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || event.target.tagName === "INPUT" && event.target.type !== "checkbox") return;
    event.preventDefault();
    stop();
    slider.value = +slider.value + move;
    paint();
  });

  const tiles = new Map(all(".tile").map((tile) => [tile.dataset.order, tile]));
  Promise.all(data.orders.map((order) => {
    const tile = tiles.get(order.name);
    order.context = prepare(one("canvas", tile), order, 96);
    order.stat = one(".stat", tile);
    order.picture = new Image();
    order.picture.src = order.sprite;
    return order.picture.decode();
  })).then(() => {
    picker();
    paint();
    document.documentElement.dataset.ready = "yes";
  });
})();

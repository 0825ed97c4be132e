"""The script of a roll's page. It reads the JSON in the page, asks for nothing, and writes text only as text."""

SCRIPT = r""""use strict";
(() => {
const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const [NUMBER, ALONG, ACROSS, EXTENT, WIDTH, LENGTH, AREA, SCORE, KIND, LANES, FLAGS, COLOR] = Array(12).keys();
const rows = data.rows, inM = data.length >= 10000, SVG = "http://www.w3.org/2000/svg", PAGE = 50, REACH_PX = 16;
const whole = {along: 0, length: data.length, across: 0, width: data.width};
const plot = byId("plot"), strip = byId("strip"), cross = byId("cross"), tip = byId("tip");
const rects = new Map([...plot.querySelectorAll("rect.d")].map(rect => [+rect.dataset.number, rect]));
let view = {...whole}, shown = rows.slice(), chosen = null, page = 0, sorting = {key: "length", down: true};

const words = (value, digits) => value.toLocaleString("en", {maximumFractionDigits: digits});
const fixed = (value, digits) =>
  value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
const fine = value => words(value, value && Math.abs(value) < 1 ? 3 : 2);
const place = (mm, digits) => inM ? `${words(mm / 1000, digits ?? 3)} m` : `${words(mm, digits ?? 1)} mm`;
function make(name, text, attributes) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  return element;
}

// The map
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= least * (1 - 1e-9));
}
function ticks(start, stop, most) {
  const step = niceStep((stop - start) / most), values = [];
  for (let i = Math.ceil(start / step - 1e-9); i <= stop / step + 1e-9; i++) values.push(i * step + 0);
  return {values, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), step};
}
function size() {
  return {width: Math.max(plot.clientWidth, 50), height: Math.max(plot.clientHeight, 50)};
}
function setView(along, length) {
  const {width, height} = size();
  view.length = Math.min(data.length, Math.max(length, Math.min(data.length, width / 20)));
  view.along = Math.min(Math.max(along, 0), data.length - view.length);
  // Far in, length and width have one scale, so that a defect has its true shape.
  const visible = Math.min(data.width, view.length * height / width);
  view.across = Math.min(Math.max(view.across + (view.width - visible) * view.anchor, 0), data.width - visible);
  view.width = visible;
  draw();
}
function zoom(factor, along, anchorAcross) {
  const share = (along - view.along) / view.length;
  const least = Math.min(data.length, size().width / 20);
  const length = Math.min(data.length, Math.max(view.length * factor, least));
  view.anchor = anchorAcross;
  setView(along - share * length, length);
}
function pan(along, across) {
  view.anchor = 0;
  view.across += across;
  setView(view.along + along, view.length);
}
function showAt(row, length) {
  view.anchor = 0;
  view.across = row[ACROSS] - data.left - Math.min(data.width, length * size().height / size().width) / 2;
  const middle = row[ALONG] + row[EXTENT] / 2;
  setView(middle - length / 2, length);
}
const middleOf = () => view.along + view.length / 2;
function draw() {
  const {width, height} = size();
  plot.setAttribute("viewBox", `${view.along} ${view.across} ${view.length} ${view.width}`);
  strip.setAttribute("viewBox", `${view.along} 0 ${view.length} 1`);
  byId("hatch").setAttribute("patternTransform",
    `scale(${view.length / width} ${view.width / height}) rotate(45)`);
  const along = ticks(view.along, view.along + view.length, Math.max(2, width / 120));
  const digits = inM ? Math.max(0, along.digits + (along.step < 1000 ? 3 : 0) - (along.digits ? 0 :
    Math.min(3, Math.floor(Math.log10(along.step) + 1e-9)))) : along.digits;
  byId("along").replaceChildren(...along.values.map(value => make("span", words(inM ? value / 1000 : value, digits),
    {style: `left:${100 * (value - view.along) / view.length}%`})));
  byId("along-unit").textContent = inM ? "m along" : "mm along";
  const start = data.left + view.across, across = ticks(start, start + view.width, height / 45);
  byId("across").replaceChildren(byId("across").firstElementChild, ...across.values.map(value =>
    make("span", words(value, across.digits), {style: `top:${(value - start) / view.width * height}px`})));
  drawLanes(start, height);
  const all = view.length >= data.length;
  byId("shown").textContent = all ? "Shown: the whole roll"
    : `Shown: ${place(view.along, digits)} to ${place(view.along + view.length, digits)}`;
  resizeMarkers();
  drawCross();
  byId("zoom-out").disabled = byId("show-all").disabled = all;
  byId("pan-back").disabled = view.along <= 0;
  byId("pan-on").disabled = view.along + view.length >= data.length;
  tip.hidden = true;
}
function resizeMarkers() {
  const stop = view.along + view.length, low = data.left + view.across, high = low + view.width;
  const count = shown.filter(row => row[ALONG] <= stop && row[ALONG] + row[EXTENT] >= view.along
    && row[ACROSS] >= low && row[ACROSS] <= high).length;
  plot.style.setProperty("--share", Math.max(data.leastShare, Math.min(1, Math.sqrt(data.fullSize / (count || 1)))));
}
function drawLanes(start, height) {
  let last = -99;
  const names = [];
  for (const [name, from, to] of data.lanes) {
    const low = Math.max(from, start), high = Math.min(to, start + view.width);
    const middle = ((low + high) / 2 - start) / view.width * height;
    if (high <= low || middle - last < 19) continue;
    const grade = data.grades[name], label = make("span", undefined, {style: `top:${middle}px`});
    label.title = grade === undefined ? name : `${name}: ${grade}`;
    label.append(make("i", name), ...(grade === undefined ? [] : [make("b", grade)]));
    names.push(label);
    last = middle;
  }
  byId("lane-names").replaceChildren(...names);
}
function at(event) {
  const box = plot.getBoundingClientRect();
  return {x: event.clientX - box.left, y: event.clientY - box.top, width: box.width, height: box.height};
}
function nearest(point) {
  const sx = point.width / view.length, sy = point.height / view.width;
  let best = null, least = REACH_PX ** 2;
  for (const row of shown) {
    const x0 = (row[ALONG] - view.along) * sx, y0 = (row[ACROSS] - row[WIDTH] / 2 - data.left - view.across) * sy;
    const dx = Math.max(x0 - point.x, 0, point.x - x0 - row[EXTENT] * sx);
    const dy = Math.max(y0 - point.y, 0, point.y - y0 - row[WIDTH] * sy);
    const distance = dx * dx + dy * dy;
    if (distance < least || (distance === least && best && row[AREA] < best[AREA])) [best, least] = [row, distance];
  }
  return best;
}
const pointers = new Map();
let moved = false;
plot.addEventListener("pointerdown", event => {
  if (event.button) return;
  pointers.set(event.pointerId, at(event));
  if (pointers.size === 1) moved = false;
  plot.setPointerCapture(event.pointerId);
});
plot.addEventListener("pointermove", event => {
  const now = at(event), before = pointers.get(event.pointerId);
  if (!before) return hover(now);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const factor = Math.max(20, Math.abs(before.x - other.x)) / Math.max(20, Math.abs(now.x - other.x));
    zoom(factor, view.along + (now.x + other.x) / 2 / now.width * view.length, now.y / now.height);
    moved = true;
  } else if (moved || Math.hypot(now.x - before.x, now.y - before.y) > 4) {
    pan((before.x - now.x) / now.width * view.length, (before.y - now.y) / now.height * view.width);
    moved = true;
  } else return;
  pointers.set(event.pointerId, now);
});
plot.addEventListener("pointerup", event => {
  const was = pointers.delete(event.pointerId);
  if (!was || moved) return;
  const row = nearest(at(event));
  if (row) choose(row, false);
});
plot.addEventListener("pointercancel", event => pointers.delete(event.pointerId));
plot.addEventListener("pointerleave", () => { tip.hidden = true; });
function hover(point) {
  const row = nearest(point);
  tip.hidden = !row;
  if (!row) return;
  tip.textContent = `No. ${row[NUMBER]}, ${data.kinds[row[KIND]]}, ${fine(row[LENGTH])} mm long`;
  tip.style.left = `${Math.min(Math.max(point.x, 90), point.width - 90)}px`;
  tip.style.top = `${point.y}px`;
}
plot.addEventListener("wheel", event => {
  if (event.deltaY > 0 && view.length >= data.length) return;
  event.preventDefault();
  const point = at(event);
  zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 250))),
    view.along + point.x / point.width * view.length, point.y / point.height);
}, {passive: false});
const actions = {
  "zoom-in": () => zoom(0.5, middleOf(), 0.5), "zoom-out": () => zoom(2, middleOf(), 0.5),
  "pan-back": () => pan(-view.length / 4, 0), "pan-on": () => pan(view.length / 4, 0),
  "show-all": () => { view.anchor = 0; setView(0, data.length); },
  previous: () => step(-1), next: () => step(1),
  "zoom-to": () => chosen && showAt(chosen, Math.max(4 * chosen[EXTENT], 4 * chosen[LENGTH], size().width / 8)),
};
for (const id in actions) byId(id)?.addEventListener("click", actions[id]);
const keys = {
  "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", "0": "show-all", ArrowLeft: "pan-back", ArrowRight: "pan-on",
  n: "next", p: "previous", Enter: "zoom-to",
};
plot.addEventListener("keydown", event => {
  const is_vertical = event.key === "ArrowUp" || event.key === "ArrowDown";
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys || is_vertical)) return;
  event.preventDefault();
  if (is_vertical) pan(0, (event.key === "ArrowUp" ? -1 : 1) * view.width / 4);
  else actions[keys[event.key]]();
});
window.addEventListener("resize", () => { view.anchor = 0.5; setView(view.along, view.length); });

// The chosen defect
function drawCross() {
  if (!chosen) return;
  const {width, height} = size(), x = chosen[ALONG] + chosen[EXTENT] / 2, y = chosen[ACROSS] - data.left;
  const dx = chosen[EXTENT] / 2 + 10 * view.length / width, dy = chosen[WIDTH] / 2 + 10 * view.width / height;
  const lines = [[x, 0, x, y - dy], [x, y + dy, x, data.width], [0, y, x - dx, y], [x + dx, y, data.length, y]];
  cross.replaceChildren(...["halo", "hair"].flatMap(name => lines.map(([x1, y1, x2, y2]) => {
    const line = document.createElementNS(SVG, "line");
    for (const [key, value] of Object.entries({class: name, x1, y1, x2, y2})) line.setAttribute(key, value);
    return line;
  })));
}
function choose(row, mayMove) {
  chosen = row;
  if (!shown.includes(row)) { byId("filters").reset(); filter(); }
  page = Math.floor(shown.indexOf(row) / PAGE);
  fill();
  const x = row[ALONG], y = row[ACROSS] - data.left;
  if (mayMove && (x > view.along + view.length || x + row[EXTENT] < view.along || y < view.across
      || y > view.across + view.width)) showAt(row, view.length);
  drawCross();
  byId("detail-title").textContent = `Defect ${row[NUMBER]}: ${data.kinds[row[KIND]]}`;
  const facts = [["Along", place(x)], ["Across", `${words(row[ACROSS], 1)} mm`], ["Length", `${fine(row[LENGTH])} mm`],
    ["Size along × across", `${fine(row[EXTENT])} × ${fine(row[WIDTH])} mm`], ["Area", `${fine(row[AREA])} mm²`],
    ["Score", words(row[SCORE], 4)], ["Lanes", laneWords(row) || "none"]];
  if (row[FLAGS] & 2) facts.push(["Streak", "goes on from the record before"]);
  if (row[FLAGS] & 1) facts.push(["Streak", "goes on in the next record"]);
  const list = make("dl");
  for (const [term, value] of facts) {
    const fact = make("div");
    fact.append(make("dt", term), make("dd", value));
    list.append(fact);
  }
  byId("detail-text").replaceChildren(list);
  byId("zoom-to").disabled = false;
  showCrop(row);
}
function showCrop(row) {
  const uri = data.crops[row[NUMBER]];
  const missing = uri === "" ? "The picture cannot be read" : "No picture in this page";
  byId("crop").replaceChildren(uri ? picture(row) : make("span", missing));
}
const picture = row => make("img", undefined,
  {src: data.crops[row[NUMBER]], alt: `Picture of defect ${row[NUMBER]}, ${data.kinds[row[KIND]]}`});
function step(by) {
  if (!shown.length) return;
  const now = shown.indexOf(chosen);
  choose(shown[now < 0 ? 0 : Math.min(Math.max(now + by, 0), shown.length - 1)], true);
}
const laneWords = row => row[LANES].map(i => data.laneNames[i]).join(", ");
function fillGallery() {
  const withCrop = rows.filter(row => data.crops[row[NUMBER]]).sort((a, b) => b[LENGTH] - a[LENGTH] || a[0] - b[0]);
  byId("largest").replaceChildren(...withCrop.slice(0, 10).map(row => {
    const button = make("button", undefined, {type: "button"});
    button.append(picture(row), make("span", `No. ${row[NUMBER]}`), make("span", `${words(row[LENGTH], 1)} mm`));
    button.addEventListener("click", () => choose(row, true));
    return button;
  }));
}

// The table
const values = {
  number: row => row[NUMBER], along: row => row[ALONG], across: row => row[ACROSS], length: row => row[LENGTH],
  width: row => row[WIDTH], area: row => row[AREA], score: row => row[SCORE], kind: row => data.kinds[row[KIND]],
  lanes: laneWords, crop: row => data.crops[row[NUMBER]] ? 1 : 0,
};
function option(text, value) { return make("option", text, {value}); }
function filter() {
  const kind = byId("by-kind").value, lane = byId("by-lane").value, repeat = byId("by-repeat").value;
  const least = parseFloat(byId("by-length").value) || 0;
  const numbers = repeat === "" ? null : new Set(data.repeats[+repeat]);
  shown = rows.filter(row => (kind === "" || row[KIND] === +kind) && (lane === "" || row[LANES].includes(+lane))
    && row[LENGTH] >= least && (!numbers || numbers.has(row[NUMBER])));
  const kept = new Set(shown.map(row => row[NUMBER]));
  for (const [number, rect] of rects) rect.style.display = kept.has(number) ? "" : "none";
  const value = values[sorting.key], sign = sorting.down ? -1 : 1;
  shown.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return (x < y ? -sign : x > y ? sign : a[NUMBER] - b[NUMBER]);
  });
  page = 0;
  resizeMarkers();
  fill();
}
function fill() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  byId("count").textContent = `${words(shown.length, 0)} of ${words(rows.length, 0)} defects`
    + (pages > 1 ? `, ${words(page * PAGE + 1, 0)} to ${words(Math.min(shown.length, page * PAGE + PAGE), 0)} listed`
      : "");
  byId("page-number").textContent = `page ${words(page + 1, 0)} of ${words(pages, 0)}`;
  byId("page-back").disabled = page === 0;
  byId("page-on").disabled = page === pages - 1;
  byId("table").tBodies[0].replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(tableRow));
  for (const button of document.querySelectorAll("[data-sort]")) {
    const is_used = button.dataset.sort === sorting.key;
    button.parentElement.setAttribute("aria-sort", is_used ? (sorting.down ? "descending" : "ascending") : "none");
  }
}
function tableRow(row) {
  const line = make("tr", undefined, {"data-number": row[NUMBER]});
  if (row === chosen) line.setAttribute("aria-current", "true");
  const number = make("td", undefined, {class: "count"}), kind = make("td", undefined);
  number.append(make("button", row[NUMBER], {type: "button", "aria-label": `Show defect ${row[NUMBER]}`}));
  const dot = document.createElementNS(SVG, "svg"), box = document.createElementNS(SVG, "rect");
  dot.setAttribute("class", "dot");
  box.setAttribute("class", `k${row[COLOR]}`);
  box.setAttribute("width", "12");
  box.setAttribute("height", "12");
  dot.append(box);
  kind.append(dot, data.kinds[row[KIND]]);
  const counts = [inM ? fixed(row[ALONG] / 1000, 3) : fixed(row[ALONG], 1), fixed(row[ACROSS], 1),
    fixed(row[LENGTH], 2), fixed(row[WIDTH], 2), fixed(row[AREA], 2), fixed(row[SCORE], 3)];
  const crop = row[NUMBER] in data.crops ? "yes" : "–";
  line.append(number, ...counts.map(text => make("td", text, {class: "count"})), kind, make("td", laneWords(row)),
    make("td", crop));
  line.addEventListener("click", () => {
    choose(row, true);
    document.querySelector(`tr[data-number="${row[NUMBER]}"] button`)?.focus({preventScroll: true});
  });
  return line;
}
function prepareTable() {
  byId("by-kind").append(option("all", ""), ...data.kinds.map((kind, i) => option(kind, i)));
  byId("by-lane").append(option("all", ""), ...data.laneNames.map((name, i) => option(name, i)));
  byId("by-repeat").append(option("all", ""), ...data.repeats.map((numbers, i) =>
    option(`repeat ${i + 1}, ${numbers.length} marks`, i)));
  for (const name of ["input", "change"]) byId("filters").addEventListener(name, filter);
  byId("filters").addEventListener("submit", event => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(filter));
  byId("page-back").addEventListener("click", () => { page--; fill(); });
  byId("page-on").addEventListener("click", () => { page++; fill(); });
  for (const button of document.querySelectorAll("[data-sort]")) button.addEventListener("click", () => {
    const key = button.dataset.sort, is_text = key === "kind" || key === "lanes" || key === "number" || key === "along";
    sorting = {key, down: sorting.key === key ? !sorting.down : !is_text};
    filter();
  });
  for (const button of document.querySelectorAll(".show-repeat")) button.addEventListener("click", () => {
    byId("filters").reset();
    byId("by-repeat").value = button.dataset.repeat;
    setTimeout(() => { byId("by-repeat").value = button.dataset.repeat; filter(); });
    plot.scrollIntoView({block: "center"});
  });
  filter();
}
view.anchor = 0;
setView(0, data.length);
if (rows.length) prepareTable();
if (byId("largest")) fillGallery();
})();
"""

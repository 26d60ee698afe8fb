"use strict";

const $ = (id) => document.getElementById(id);
const [stage, under, over, edge, wipe, left, right] = ["stage", "under", "over", "edge", "wipe", "left", "right"].map($);

/** The pairs, the one that is shown, and its numbers by plane. */
const state = { names: [], index: -1, scene: null, numbers: {} };

async function start() {
  const { title, names } = await (await fetch("/pairs")).json();
  document.title = $("title").textContent = title;
  state.names = names;
  $("list").hidden = names.length < 2;
  for (const button of ["previous", "next"]) $(button).hidden = names.length < 2;
  $("pairs").append(...names.map((name, index) => {
    const row = document.createElement("tr");
    row.dataset.index = index;
    for (const text of [index + 1, name, "", ""]) row.insertCell().textContent = text;
    row.addEventListener("click", () => show(index));
    return row;
  }));
  await show(0);
}

/** Shows a pair, with the same layers as the one before if it has them. */
async function show(index) {
  if (index < 0 || index >= state.names.length) return;
  Object.assign(state, { index, scene: null, numbers: {} });
  $("name").textContent = state.names.length > 1 ? `${index + 1} of ${state.names.length}: ${state.names[index]}` : state.names[index];
  $("value").textContent = "Move the pointer over the picture to read values.";
  $("message").textContent = "estimating…";
  const answer = await fetch(`/pair/${index}/scene`);
  if (state.index !== index) return;
  if (!answer.ok) {
    $("message").textContent = await answer.text();
    return;
  }
  const scene = (state.scene = await answer.json());
  for (const plane of scene.planes) {
    fetch(`/pair/${index}/${plane}.f32`)
      .then((numbers) => numbers.arrayBuffer())
      .then((buffer) => { if (state.index === index) state.numbers[plane] = new Float32Array(buffer); });
  }
  const ids = scene.layers.map((layer) => layer.id);
  const choose = (select, wanted) => {
    const before = select.value;
    select.replaceChildren(...scene.layers.map(({ id, title }) => new Option(title, id)));
    select.value = ids.includes(before) ? before : wanted.find((id) => ids.includes(id)) ?? ids[0];
  };
  choose(left, ["frame1", "flow"]);
  choose(right, ["flow", "truth"]);
  $("wheel").src = `/pair/${index}/wheel.png`;
  $("scale").textContent = `flow, full colour at ${scene.full_colour.toFixed(2)} px`;
  $("errors").hidden = !ids.includes("error");
  if (ids.includes("error")) $("error-scale").src = `/pair/${index}/errors.png`;
  figures(scene);
  const row = [...$("pairs").rows].find((row) => Number(row.dataset.index) === index);
  for (const other of $("pairs").rows) other.classList.toggle("shown", other === row);
  row.cells[2].textContent = scene.mean_motion?.toFixed(3) ?? "";
  row.cells[3].textContent = scene.metrics?.epe?.toFixed(3) ?? "";
  layers();
  $("message").textContent = "";
}

function figures({ width, height, mean_motion, metrics }) {
  const rows = [["size", `${height}x${width}`]];
  if (mean_motion != null) rows.push(["mean motion", `${mean_motion.toFixed(3)} px`]);
  if (metrics?.epe != null) rows.push(["mean error", `${metrics.epe.toFixed(3)} px`], ["outliers (Fl)", `${metrics.fl.toFixed(2)} %`]);
  $("figures").replaceChildren(...rows.map((texts) => {
    const row = document.createElement("tr");
    for (const text of texts) row.insertCell().textContent = text;
    return row;
  }));
}

function layers() {
  const title = (select) => select.selectedOptions[0]?.textContent ?? "";
  const source = (select) => `/pair/${state.index}/${select.value}.png`;
  [under.src, over.src] = [source(right), source(left)];
  [under.alt, over.alt] = [title(right), title(left)];
  under.width = over.width = state.scene.width;
  under.height = over.height = state.scene.height;
  $("view").style.setProperty("--ratio", state.scene.width / state.scene.height);
  move();
}

/** The left layer is cut where the slider stands. */
function move() {
  const share = wipe.value / wipe.max;
  over.style.clipPath = `inset(0 ${100 - 100 * share}% 0 0)`;
  edge.style.left = `${share * under.getBoundingClientRect().width}px`;
  edge.style.height = `${under.getBoundingClientRect().height}px`;
}

function fit() {
  $("view").classList.toggle("fit", $("fit").checked);
  move();
}

/** What is known of the pixel under the pointer. */
function read(event) {
  const box = under.getBoundingClientRect();
  const { scene, numbers } = state;
  if (!scene || !box.width) return;
  const x = Math.floor(((event.clientX - box.left) / box.width) * scene.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * scene.height);
  if (x < 0 || y < 0 || x >= scene.width || y >= scene.height) return;
  const at = y * scene.width + x;
  const vector = (plane) => plane && [plane[at], plane[scene.width * scene.height + at]];
  const written = (v) => isNaN(v[0]) ? "unknown" : `u ${signed(v[0])}, v ${signed(v[1])} (${Math.hypot(...v).toFixed(3)} px)`;
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
  const parts = [`x ${x}, y ${y}`];
  const [flow, truth] = [vector(numbers.flow), vector(numbers.truth)];
  if (flow) parts.push(`flow ${written(flow)}`);
  if (truth) parts.push(`truth ${written(truth)}`);
  if (flow && truth && !isNaN(flow[0] + truth[0])) parts.push(`error ${Math.hypot(flow[0] - truth[0], flow[1] - truth[1]).toFixed(3)} px`);
  if (numbers.confidence) parts.push(`confidence ${numbers.confidence[at].toFixed(2)}`);
  $("value").textContent = parts.join("   ");
}

function drag(event) {
  const box = under.getBoundingClientRect();
  wipe.value = Math.round(((event.clientX - box.left) / box.width) * wipe.max);
  move();
}

wipe.addEventListener("input", move);
$("fit").addEventListener("change", fit);
for (const select of [left, right]) select.addEventListener("change", layers);
stage.addEventListener("pointermove", (event) => {
  if (event.buttons & 1) drag(event);
  read(event);
});
stage.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  stage.focus();
  stage.setPointerCapture(event.pointerId);
  drag(event);
});
for (const image of [under, over]) image.addEventListener("load", move);
addEventListener("resize", move);
$("previous").addEventListener("click", () => show(state.index - 1));
$("next").addEventListener("click", () => show(state.index + 1));
addEventListener("keydown", (event) => {
  if (event.target.matches("select")) return;
  const step = { PageUp: -1, PageDown: 1 }[event.key];
  if (step) { event.preventDefault(); show(state.index + step); }
  const shift = event.target.matches("input") ? 0 : { ArrowLeft: -10, ArrowRight: 10 }[event.key];
  if (shift) { event.preventDefault(); wipe.value = Number(wipe.value) + shift; move(); }
});
fit();
start().catch((error) => { $("message").textContent = `${error}`; });

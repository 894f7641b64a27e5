// The page: it names the model, takes pictures and adds a card for every picture.

import { Card, percent } from "./card.js";
import { Problem, Remedy, ask, askPatiently, hasKey, useKey } from "./service.js";

const MOST_AT_A_TIME = 100; // cards; `eurosat classify` handles more pictures

const byId = (id) => document.getElementById(id);
const cards = new Set();
let info; // the model card and the limits, once /info has answered

const page = { limits: () => info?.limits, changed };

// The model

async function introduce() {
  try {
    info = await askPatiently("info", {}, () => {
      byId("model").textContent = "The service is busy …";
    });
  } catch (error) {
    const keyNeeded = error.remedy === Remedy.KEY;
    if (keyNeeded) askForKey();
    byId("model").textContent = keyNeeded
      ? "The service names its model only to callers with an API key."
      : error.message;
    return;
  }
  const { version, backbone, metrics, split, synthetic, bands, patch_size: size } = info.model;
  const name = document.createElement("code");
  name.textContent = version;
  const facts = [`, backbone ${backbone}`];
  if (metrics?.accuracy !== undefined) {
    const tested = split?.test ? ` on ${split.test.toLocaleString("en")} test images` : "";
    facts.push(`. Test accuracy ${percent(metrics.accuracy)}${tested}`);
  }
  byId("model").replaceChildren("Model ", name, `${facts.join("")}.`);
  byId("synthetic").hidden = !synthetic;
  const kinds =
    bands.join("") === "RGB"
      ? "JPEG, PNG or GeoTIFF files"
      : "GeoTIFF files with Sentinel-2's 13 bands";
  byId("takes").textContent =
    `Choose one or several ${kinds}. The model takes ${size} × ${size} pixels, which cover ` +
    `${(size * 10).toLocaleString("en")} m a side at 10 m per pixel. ` +
    "The service resizes pictures of another size.";
}

// The key

function askForKey() {
  const form = byId("key-form");
  if (!form.hidden) return;
  form.hidden = false;
  if (hasKey()) {
    byId("key-note").textContent = "The key was not accepted. Check the key and try again.";
  }
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key-form").hidden = true;
  introduce();
  for (const card of cards) if (card.state === "key") card.start();
});

// Pictures in

function add(pictures) {
  if (!pictures.length) return;
  const added = pictures.slice(0, MOST_AT_A_TIME).map((picture) => new Card(picture, page));
  byId("results").prepend(...added.map((card) => card.element));
  for (const card of added) cards.add(card);
  byId("results-part").hidden = false;
  changed();
  if (added.length < pictures.length) {
    say(
      `The page takes the first ${added.length} of ${pictures.length} pictures. ` +
        "Use “eurosat classify” for more pictures.",
    );
  }
  added[0].element.scrollIntoView({ block: "nearest" });
}

const local = (file) => ({ name: file.name, read: async () => file });

byId("files").addEventListener("change", (event) => {
  add([...event.target.files].map(local));
  event.target.value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", (event) => {
  add([...(event.clipboardData?.files ?? [])].map(local));
});

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

// The whole page accepts pictures. Otherwise the browser would open a picture that is dropped
// beside the panel, and the page would be lost.
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) byId("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  byId("drop").classList.remove("over");
  add([...event.dataTransfer.files].map(local));
});

// Examples

async function showExamples() {
  const names = await ask("examples").catch(() => []);
  byId("no-examples").hidden = names.length > 0;
  byId("examples").replaceChildren(...names.map(exampleButton));
}

function exampleButton(name) {
  const address = `examples/${encodeURIComponent(name)}`;
  const button = document.createElement("button");
  const image = document.createElement("img");
  image.alt = `Classify ${name}`;
  image.loading = "lazy";
  image.addEventListener("error", () => image.replaceWith(name)); // browsers cannot show a GeoTIFF
  image.src = address;
  button.type = "button";
  button.title = name;
  button.append(image);
  button.addEventListener("click", () => add([{ name, read: () => fetchExample(address) }]));
  return button;
}

async function fetchExample(address) {
  const response = await fetch(address).catch(() => undefined);
  if (!response?.ok) {
    throw new Problem("The example cannot be fetched. Try again or reload the page.", Remedy.AGAIN);
  }
  return response.blob();
}

// Cards out

function changed(card) {
  if (card?.state === "key") askForKey();
  if (card?.state === "done" && !info) introduce();
  const over = [...cards].filter(({ state }) => state !== "waiting" && state !== "asking").length;
  byId("progress").textContent = cards.size > 1 ? `${over} of ${cards.size} ready` : "";
  if (card?.said && card.state !== "waiting" && card.state !== "asking") say(card.said);
}

function say(text) {
  byId("said").textContent = text;
}

byId("clear").addEventListener("click", () => {
  for (const card of cards) card.remove();
  cards.clear();
  byId("results-part").hidden = true;
  byId("files").focus();
});

introduce();
showExamples();

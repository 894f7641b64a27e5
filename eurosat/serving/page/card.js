// The card of one picture: it shows the progress, and then the prediction or an error.

import { describeSaliency, drawSaliency } from "./saliency.js";
import { Problem, Remedy, askPatiently, inTurn } from "./service.js";

const SURE = 0.5; // the card warns of a doubtful class below this probability
const template = document.getElementById("card");

/** Split a class name: "HerbaceousVegetation" becomes "Herbaceous vegetation". */
export function splitName(name) {
  const words = name.replace(/([a-z\d])([A-Z])/g, "$1 $2").replace(/[_-]+/g, " ").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Format a probability as a percentage, which is never 0 % or 100 %. */
export function percent(probability) {
  if (probability < 0.001) return "< 0.1 %";
  if (probability > 0.999) return "> 99.9 %";
  return `${(100 * probability).toFixed(1)} %`;
}

export class Card {
  /**
   * @param {{name: string, read: () => Promise<Blob>}} picture
   * @param {{limits: () => object | undefined, changed: (card: Card) => void}} page
   */
  constructor(picture, page) {
    this.picture = picture;
    this.page = page;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.part(".file").textContent = picture.name;
    this.element.setAttribute("aria-label", picture.name);
    this.part(".again").addEventListener("click", () => this.start());
    this.part(".toggle input").addEventListener("change", (event) => {
      this.part("canvas").hidden = this.part(".legend").hidden = !event.target.checked;
    });
    this.start();
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  /** Queue the request for this card's prediction. */
  start() {
    this.show("waiting", "", "Waiting for other pictures …");
    inTurn(() => this.classify());
  }

  async classify() {
    if (this.state === "removed") return;
    this.show("asking", "", "Classifying …");
    try {
      const blob = await this.read();
      const body = new FormData();
      body.append("file", blob, this.picture.name);
      const seconds = (this.page.limits()?.timeout ?? 30) + 10;
      const answer = await askPatiently("explain", { body, seconds }, (wait) =>
        this.show("asking", "", `The service is busy. The page tries again in ${wait} s …`),
      );
      this.showAnswer(answer);
    } catch (error) {
      if (!(error instanceof Problem)) console.error(error);
      this.showProblem(error);
    }
  }

  /** Read the file, and show it at once if the browser can decode it. */
  async read() {
    let blob;
    try {
      blob = await this.picture.read();
      // A folder or a deleted file fails here, and not later as a "network" error.
      blob = new Blob([await blob.arrayBuffer()], { type: blob.type });
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Problem(
        "The file cannot be read: it may be a folder or a deleted file. Choose an existing file.",
        Remedy.NONE,
      );
    }
    const most = this.page.limits()?.max_body_bytes;
    if (most && blob.size > most - 1024) {
      const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
      throw new Problem(
        `The file has ${mebibytes(blob.size)} MiB, and the service accepts ${mebibytes(most)} MiB. ` +
          "Choose a smaller file.",
        Remedy.NONE,
      );
    }
    const image = this.part("img");
    if (!image.src) {
      const address = URL.createObjectURL(blob);
      const done = () => URL.revokeObjectURL(address);
      image.addEventListener("load", done, { once: true });
      image.addEventListener("error", () => (done(), image.removeAttribute("src")), { once: true });
      image.src = address;
    }
    return blob;
  }

  /** Put the card into a state; texts never become markup. */
  show(state, title, note) {
    this.state = state;
    this.element.dataset.state = state;
    this.part(".class").textContent = title;
    this.part(".note").textContent = note;
    this.part("progress").hidden = state !== "waiting" && state !== "asking";
    this.part(".again").hidden = state !== "failed";
    this.page.changed(this);
  }

  showAnswer(answer) {
    const sorted = Object.entries(answer.probabilities).sort(([, a], [, b]) => b - a);
    const [name, confidence] = [splitName(answer.label), answer.probabilities[answer.label]];
    this.said = `${this.picture.name}: ${name}, ${percent(confidence)}`;
    this.part("tbody").replaceChildren(...sorted.map(bar));
    this.part("table").hidden = false;
    const unlike = Boolean(answer.ood && answer.ood.flag);
    this.part(".doubt").hidden = confidence >= SURE && !unlike;
    this.part(".doubt").textContent = unlike
      ? "This does not look like a Sentinel-2 land patch, so the class may mean nothing."
      : `The model is not sure: ${name.toLowerCase()} is the likeliest class, but below ${100 * SURE} %.`;
    this.part(".origin").textContent = `Model ${answer.model_version}`;
    const image = this.part("img");
    image.src = answer.picture;
    image.alt = `The model's input patch of ${this.picture.name}`;
    drawSaliency(this.part("canvas"), answer.saliency);
    this.part(".legend p").textContent = describeSaliency(answer.saliency, name);
    for (const part of ["canvas", ".toggle", ".legend"]) this.part(part).hidden = false;
    this.show("done", name, "");
  }

  showProblem(error) {
    const name = this.picture.name;
    const sentence =
      error instanceof Problem
        ? error.message
        : "The page failed: the browser's console shows the error.";
    const shown = sentence.startsWith(name)
      ? sentence
      : sentence.charAt(0).toUpperCase() + sentence.slice(1);
    const { KEY, NONE } = Remedy;
    const [state, title] =
      error.remedy === NONE
        ? ["refused", "Not classified"]
        : error.remedy === KEY
          ? ["key", "API key needed"]
          : ["failed", "No answer"];
    this.said = `${name}: ${title}. ${shown}`;
    this.part(".origin").textContent = error.requestId ? `Request ${error.requestId}` : "";
    this.show(state, title, shown);
  }

  remove() {
    this.state = "removed";
    this.element.remove();
  }
}

function bar([name, probability], rank) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  const [track, number] = [document.createElement("td"), document.createElement("td")];
  const fill = document.createElement("span");
  head.scope = "row";
  head.textContent = splitName(name);
  fill.style.width = `${100 * probability}%`;
  fill.className = "bar";
  track.setAttribute("aria-hidden", "true");
  track.append(fill);
  number.textContent = percent(probability);
  row.className = rank === 0 ? "top" : "";
  row.append(head, track, number);
  return row;
}

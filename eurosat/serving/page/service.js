// Requests to the service: two at a time, again while it is busy, errors in words.

const MOST_AT_ONCE = 2;
const MOST_TRIES = 8;
const LONGEST_WAIT = 60; // seconds; a larger Retry-After is not waited out unasked
const KEY = "eurosat-api-key";

/** What a person can do about a failed request. */
export const Remedy = Object.freeze({
  NONE: "none", // the picture is at fault
  KEY: "key", // show an API key
  AGAIN: "again", // try again later
});

export class Problem extends Error {
  constructor(message, remedy, requestId = "") {
    super(message);
    this.remedy = remedy;
    this.requestId = requestId;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/**
 * Ask the service once.
 *
 * @param {string} path relative to the page, so that it works behind a path prefix
 * @param {{body?: FormData, seconds?: number}} options a body makes it a POST
 * @returns {Promise<any>} the JSON answer
 * @throws {Problem}
 */
export async function ask(path, { body, seconds = 60 } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      body,
      headers: hasKey() ? { "X-API-Key": sessionStorage.getItem(KEY) } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(seconds * 1000),
    });
    if (response.ok) return await response.json();
  } catch (error) {
    const message =
      error.name === "TimeoutError"
        ? `There was no answer within ${seconds} s.`
        : response
          ? "The answer could not be read: something between here and the service changed it."
          : "The service cannot be reached. It may have been stopped, or the network is down.";
    throw new Problem(message, Remedy.AGAIN);
  }
  throw await problemOf(response);
}

/**
 * Ask, waiting as long as the service wants when it is busy.
 *
 * @param {(seconds: number) => void} onBusy called before every wait
 */
export async function askPatiently(path, options, onBusy) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask(path, options);
    } catch (error) {
      if (error.wait === undefined || error.wait > LONGEST_WAIT || attempt === MOST_TRIES) {
        throw error;
      }
      onBusy(error.wait);
      await new Promise((resolve) => setTimeout(resolve, error.wait * 1000));
    }
  }
}

async function problemOf(response) {
  const content = await response.json().catch(() => null);
  const sentence = content?.error ?? `The service answered with status ${response.status}.`;
  const id = content?.id ?? response.headers.get("X-Request-ID") ?? "";
  switch (response.status) {
    case 401:
      return new Problem(sentence, Remedy.KEY, id);
    case 413:
    case 415:
    case 422:
      return new Problem(sentence, Remedy.NONE, id);
    default: {
      const problem = new Problem(sentence, Remedy.AGAIN, id);
      if (response.status === 503 || response.status === 429) problem.wait = waitOf(response);
      return problem;
    }
  }
}

function waitOf(response) {
  const given = response.headers.get("Retry-After") ?? "1";
  const seconds = /^\d+$/.test(given) ? Number(given) : (Date.parse(given) - Date.now()) / 1000;
  return Math.max(Math.ceil(seconds) || 1, 1);
}

const waiting = [];
let running = 0;

/** Run a task when fewer than `MOST_AT_ONCE` are running. */
export function inTurn(task) {
  waiting.push(task);
  next();
}

function next() {
  while (running < MOST_AT_ONCE && waiting.length) {
    running += 1;
    waiting.shift()().finally(() => {
      running -= 1;
      next();
    });
  }
}

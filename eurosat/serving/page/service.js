// Requests to the service: at most two at a time, repeated while the service is busy.

const MOST_AT_ONCE = 2;
const MOST_TRIES = 8;
const LONGEST_WAIT = 60; // seconds; after a larger Retry-After the user tries again
const KEY = "eurosat-api-key";

/** The user's remedy for a failed request. */
export const Remedy = Object.freeze({
  NONE: "none", // the service rejected the picture
  KEY: "key", // enter an API key
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
 * @param {string} path relative to the page, so that a proxy's path prefix is kept
 * @param {{body?: FormData, seconds?: number}} options a request with a body is a POST
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
        ? `The service did not answer within ${seconds} s. Try again.`
        : response
          ? "The answer cannot be read: a proxy may have changed the answer. Check the address."
          : "The service cannot be reached: it may have stopped, or the network may be down. Try again.";
    throw new Problem(message, Remedy.AGAIN);
  }
  throw await problemOf(response);
}

/**
 * Ask, and ask again while the service is busy, after the wait that the service names.
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

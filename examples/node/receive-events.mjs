// Receives events over HTTP: believes what is signed and fresh, and deals with each event once.
//
// RECEIVER_SECRETS=whsec_... node receive-events.mjs PORT LEDGER     (behind something that does TLS)
//
// The ledger is a file with a line for each event, in place of your database: there, make what you do with an event and
// the memory of its id one transaction. Only when that is saved is the answer 204: whatever else we answer, the event
// comes again.
import { createHmac, timingSafeEqual } from "node:crypto";
import { existsSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { createServer } from "node:http";

const SECRETS = process.env.RECEIVER_SECRETS.split(/\s+/).map((text) => Buffer.from(text.replace(/^whsec_/, ""), "base64"));
const TOLERANCE = 300; // seconds between their clock and ours
const LARGEST = 1024 * 1024; // bytes
const [port, path] = process.argv.slice(2);

const seen = new Set(existsSync(path) ? readFileSync(path, "utf8").split("\n").map((line) => line.split("\t", 1)[0]) : []);
const ledger = openSync(path, "a");

/** Whether somebody who has one of our secrets has just signed exactly this body. */
function isSigned(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": timestamp = "", "webhook-signature": signatures = "" } = headers;
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE) return false;
  const wanted = SECRETS.map((key) => createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest());
  return signatures.split(" ").some((signature) => {
    const [version, text = ""] = signature.split(",");
    const given = Buffer.from(text, "base64");
    return version === "v1" && wanted.some((right) => right.length === given.length && timingSafeEqual(right, given));
  });
}

/** Deals with an event, once. */
function take({ id, subject, type }) {
  if (seen.has(id)) return;
  writeSync(ledger, `${id}\t${subject}\t${type}\n`);
  fsyncSync(ledger);
  seen.add(id);
}

/** The body as it came: JSON that was read and written again has another signature. */
async function bodyOf(request) {
  const parts = [];
  let length = 0;
  for await (const part of request) {
    if ((length += part.length) > LARGEST) return null;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

createServer(async (request, response) => {
  try {
    const body = await bodyOf(request);
    if (body === null) response.statusCode = 413;
    else if (!isSigned(request.headers, body)) response.statusCode = 401;
    else {
      take(JSON.parse(body));
      response.statusCode = 204;
    }
  } catch (error) {
    console.error(error);
    response.statusCode = 500; // it comes again
  }
  response.end();
}).listen(Number(port), "127.0.0.1");

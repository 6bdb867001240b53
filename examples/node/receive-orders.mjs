// Receives what stores send to the callback URLs: believes what is signed, takes each message once, reports who was heard.
//
// REDIS_URL=redis://... SECRETS=secrets.json node receive-orders.mjs PORT LEDGER     (behind something that does TLS)
//
// secrets.json has the secret of each slot, as the store shows it: {"m-1": {"order-submit": "base64"}}. The ledger is a
// file with a line for each message, in place of your database: there, make what you do with a message and the memory of
// it one transaction. Only when that is saved is the answer 204: whatever else we answer, the store sends it again.
import { createClient } from "@redis/client";
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { existsSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { createServer } from "node:http";

const SECRETS = JSON.parse(readFileSync(process.env.SECRETS, "utf8"));
const LARGEST = 16 * 1024 * 1024; // bytes
const ALGORITHMS = { 20: "sha1", 64: "sha512" }; // by the length of a signature: which one the plain header has depends on the release
const [port, path] = process.argv.slice(2);

const seen = new Set(existsSync(path) ? readFileSync(path, "utf8").split("\n").map((line) => line.split("\t", 1)[0]) : []);
const ledger = openSync(path, "a");
const heard = new Map();

/** Whether somebody who has the slot's secret has signed exactly this body. */
function isSigned(secret, signature, body) {
  const given = Buffer.from(signature, "base64");
  const algorithm = ALGORITHMS[given.length];
  if (!algorithm) return false;
  return timingSafeEqual(given, createHmac(algorithm, Buffer.from(secret, "base64")).update(body).digest());
}

/** Deals with a message, once: sent again, it has the same bytes. */
function take(merchant, slot, body) {
  const id = createHash("sha256").update(`${merchant}/${slot}/`).update(body).digest("hex");
  if (seen.has(id)) return;
  writeSync(ledger, `${id}\t${merchant}\t${slot}\t${JSON.stringify(body.toString())}\n`);
  fsyncSync(ledger);
  seen.add(id);
}

/** Once a second, which slots were heard from: one small entry. If it is lost, the next one says the same. */
async function report(redis) {
  const reports = [...heard.values()];
  heard.clear();
  while (reports.length) await redis.xAdd("occ:inbox", "*", { heard: JSON.stringify(reports.splice(0, 1000)) });
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

const redis = createClient({ url: process.env.REDIS_URL, maintNotifications: "disabled" });
redis.on("error", (error) => console.error(error.message)); // it connects again by itself
redis.connect().catch(() => {});
setInterval(() => report(redis).catch((error) => console.error(error.message)), 1000);

createServer(async (request, response) => {
  try {
    const [merchant, slot] = request.url.split("?", 1)[0].split("/").slice(-2).map(decodeURIComponent);
    const { "x-oracle-cc-webhook-signature": plain = "", "x-oracle-cc-webhook-signature-sha512": better } = request.headers;
    const secret = Object.hasOwn(SECRETS, merchant) && Object.hasOwn(SECRETS[merchant], slot) && SECRETS[merchant][slot];
    const body = await bodyOf(request);
    if (body === null) response.statusCode = 413;
    else if (!secret || !isSigned(secret, better ?? plain, body)) response.statusCode = 401;
    else {
      take(merchant, slot, body);
      heard.set(`${merchant}/${slot}`, { merchant_id: merchant, slot, at: Date.now() / 1000 });
      response.statusCode = 204;
    }
  } catch (error) {
    console.error(error);
    response.statusCode = 500; // it comes again
  }
  response.end();
}).listen(Number(port), "127.0.0.1");

// Reads occ:events so that no change is missed, repeated or out of order, however often readers are killed.
//
// node follow-events.mjs NAME LEDGER     (several of them, each under a name of its own, on one ledger)
//
// The ledger is a file with a line for each event, in place of your database: there, make what you do with an event and
// the memory of its id one transaction. A file knows none: when a slow reader is taken over, both may write a line, and the
// first one of an id counts.
import { fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { createClient } from "@redis/client";

const STREAM = "occ:events";
const GROUP = process.env.GROUP ?? "example"; // one for each system that reads
const TAKE_OVER_AFTER = Number(process.env.TAKE_OVER_AFTER ?? 60); // seconds; a page takes less
const REMEMBERED = Number(process.env.REMEMBERED ?? 10_000); // ids; what was not acknowledged: a page for each reader
const PAGE = 100;
const TAIL = 4 * 1024 * 1024; // bytes of the ledger that are read at the start

class Ledger {
  #seen = new Set(); // in the order they came
  #unfinished = "";

  constructor(path) {
    this.file = openSync(path, "a+");
    this.offset = Math.max(0, fstatSync(this.file).size - TAIL);
  }

  /** Deals with an event, once. */
  take(event) {
    this.#catchUp();
    if (this.#seen.has(event.id)) return;
    const { id, subject, sequence, type } = event;
    writeSync(this.file, `${id}\t${JSON.stringify({ merchant_id: subject, sequence, type })}\n`);
    fsyncSync(this.file);
  }

  /** At the first start, and where events were trimmed away unread: read the status of all connections instead. */
  lookAtEverything() {
    console.log("events may be missing: look at everything");
  }

  /** Reads what this and other readers have written since. */
  #catchUp() {
    const buffer = Buffer.alloc(64 * 1024);
    for (let length; (length = readSync(this.file, buffer, 0, buffer.length, this.offset)) > 0; ) {
      this.offset += length;
      const lines = (this.#unfinished + buffer.latin1Slice(0, length)).split("\n");
      this.#unfinished = lines.pop();
      for (const line of lines) this.#seen.add(line.split("\t", 1)[0]);
      for (const id of this.#seen) {
        if (this.#seen.size <= REMEMBERED) break;
        this.#seen.delete(id);
      }
    }
  }
}

/** What is ours and not acknowledged, taken over from the dead or left by ourselves; else what is new. */
async function nextPage(redis, name) {
  await redis.xAutoClaim(STREAM, GROUP, name, TAKE_OVER_AFTER * 1000, "0-0", { COUNT: PAGE });
  const left = await read(redis, name, "0");
  return left.length ? left : await read(redis, name, ">");
}

/** A page of what is ours ("0"), or of what nobody was given yet (">"). */
async function read(redis, name, start) {
  const answer = await redis.xReadGroup(GROUP, name, { key: STREAM, id: start }, { COUNT: PAGE, BLOCK: 1000 });
  return answer?.[0]?.messages ?? [];
}

/** Whether nothing in the stream is older than this page: what came before may have been trimmed away unread. */
async function beginsWithTheFirst(redis, page) {
  const [first] = await redis.xRange(STREAM, "-", "+", { COUNT: 1 });
  return !first || compare(page[0].id, first.id) <= 0;
}

/** As the stream's entries follow each other. */
function compare(one, other) {
  const [a, b] = [one, other].map((id) => id.split("-").map(BigInt));
  return Number(a[0] - b[0]) || Number(a[1] - b[1]);
}

/** Deals with events, for ever. Whatever goes wrong ends the reader: run it under something that starts it again. */
async function follow(redis, name, ledger) {
  try {
    await redis.xGroupCreate(STREAM, GROUP, "0", { MKSTREAM: true });
  } catch (error) {
    if (!error.message.includes("BUSYGROUP")) throw error;
  }
  for (;;) {
    const page = await nextPage(redis, name);
    if (page.length && (await beginsWithTheFirst(redis, page))) ledger.lookAtEverything();
    for (const { id, message } of page) {
      const { firstId } = await redis.xPending(STREAM, GROUP);
      if (firstId !== id) {
        await sleep(50); // another reader has an older one: it goes first, or is taken over
        break;
      }
      if (message?.event) ledger.take(JSON.parse(message.event)); // else it was trimmed away meanwhile
      await redis.xAck(STREAM, GROUP, id);
    }
  }
}

const [name, path] = process.argv.slice(2);
const redis = createClient({
  url: process.env.REDIS_URL,
  socket: { reconnectStrategy: false },
  maintNotifications: "disabled", // asks for a right that only Redis Enterprise has a use for
});
redis.on("error", () => {}); // the call that fails says why
await redis.connect();
await follow(redis, name, new Ledger(path));

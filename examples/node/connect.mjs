// Asks for a merchant's store to be connected, through the inbox: no Celery, and no request is lost.
//
// node connect.mjs MERCHANT STORE_URL < application-key.txt
import { randomUUID } from "node:crypto";
import { text } from "node:stream/consumers";

import { createClient } from "@redis/client";

import { seal } from "./seal.mjs";

const { REDIS_URL, SEALING_KEY_ID, SEALING_PUBLIC_KEY } = process.env;
const [merchantId, storeUrl] = process.argv.slice(2);
const request = {
  merchant_id: merchantId,
  store_url: storeUrl,
  application_key: await seal(SEALING_PUBLIC_KEY, SEALING_KEY_ID, merchantId, (await text(process.stdin)).trim()),
  request_id: randomUUID(), // events and `occ request` name it
};

const redis = createClient({
  url: REDIS_URL,
  socket: { reconnectStrategy: false },
  maintNotifications: "disabled", // asks for a right that only Redis Enterprise has a use for
});
redis.on("error", () => {}); // the call that fails says why
await redis.connect();
await redis.xAdd("occ:inbox", "*", { request: JSON.stringify(request) });
await redis.close();

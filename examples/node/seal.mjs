// Seals an application key, as docs/sealing.md shows.
import sodium from "libsodium-wrappers";

export async function seal(publicKey, keyId, merchantId, applicationKey) {
  await sodium.ready;
  const content = JSON.stringify({ merchant_id: merchantId, application_key: applicationKey });
  const box = sodium.crypto_box_seal(content, Buffer.from(publicKey, "base64url"));
  return `sealed.v1.${keyId}.${Buffer.from(box).toString("base64url")}`;
}

"""Asks for a merchant's store to be connected, through the inbox: no Celery, and no request is lost.

python connect_with_redis.py MERCHANT STORE_URL < application-key.txt
"""

import json
import os
import sys
import uuid

import redis
from seal import seal

merchant_id, store_url = sys.argv[1:]
key = (os.environ["SEALING_PUBLIC_KEY"], os.environ["SEALING_KEY_ID"])
request = {
    "merchant_id": merchant_id,
    "store_url": store_url,
    "application_key": seal(*key, merchant_id, sys.stdin.read().strip()),
    "request_id": str(uuid.uuid4()),  # events and `occ request` name it
}

with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
    client.xadd("occ:inbox", {"request": json.dumps(request)})

"""Asks for a merchant's store to be connected, through Celery.

python connect_with_celery.py MERCHANT STORE_URL < application-key.txt
"""

import os
import sys
import uuid

from celery import Celery
from seal import seal

merchant_id, store_url = sys.argv[1:]
key = (os.environ["SEALING_PUBLIC_KEY"], os.environ["SEALING_KEY_ID"])
request = {
    "merchant_id": merchant_id,
    "store_url": store_url,
    "application_key": seal(*key, merchant_id, sys.stdin.read().strip()),
    "request_id": str(uuid.uuid4()),  # events and `occ request` name it
}

with Celery(broker=os.environ["BROKER_URL"]) as app:
    app.send_task("occ.connect", queue="occ", kwargs=request, ignore_result=True)

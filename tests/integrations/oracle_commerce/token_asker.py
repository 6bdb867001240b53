"""One of several processes that ask for a merchant's access token: `python -m ... redis_url threads lock_lease mode`.

Reads a sealing key from standard input. Mode "ask": all threads ask together once the key `go` exists; prints
the tokens they got, one a line. Mode "hold": logs in and hangs while it does.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import redis

from integrations.egress.deadline import Deadline
from integrations.oracle_commerce.access_token import AccessTokens
from integrations.oracle_commerce.client import Login
from integrations.sealing.keyring import Keyring, SealingKey


def main() -> None:
    """Ask."""
    redis_url, threads, lock_lease, mode = sys.argv[1:]
    keyring = Keyring([SealingKey.parse(sys.stdin.read())])
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        tokens = AccessTokens(client, keyring, lock_lease=float(lock_lease))

        def login() -> Login:
            number = client.incr("logins")
            time.sleep(60 if mode == "hold" else 0.2)
            return Login(f"token-{number}", 300.0)

        def ask(_: int) -> str:
            while not client.exists("go"):
                time.sleep(0.005)
            with tokens.fresh("m-1", "key-1", login, Deadline.after(30), now=time.time) as (token, _):
                return token.text

        client.incr("waiting", int(threads))
        with ThreadPoolExecutor(int(threads)) as pool:
            print("\n".join(pool.map(ask, range(int(threads)))))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()

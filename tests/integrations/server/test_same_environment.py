"""Two environments with sealing keys of their own do not meet on one database; rotated keys are no stranger's."""

from pathlib import Path

import pytest
import redis

from integrations.sealing.keyring import SealingKey
from integrations.server.same_environment import keys_of_another_environment
from tests.pipeline import Pipeline

A, B, C = (SealingKey.generate() for _ in range(3))


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url, decode_responses=True)


@pytest.mark.server
def test_keys_that_share_none_are_of_another_environment(client: redis.Redis) -> None:
    with client:
        assert keys_of_another_environment(client, [A]) == []
        assert keys_of_another_environment(client, [B]) == [A.key_id]
        assert keys_of_another_environment(client, [B]) == [A.key_id], "asking changes nothing"
        assert keys_of_another_environment(client, [A]) == []


@pytest.mark.server
def test_a_rotation_makes_nobody_a_stranger(client: redis.Redis) -> None:
    with client:
        for keys in ([A], [B, A], [A], [B], [C, B], [C]):
            assert keys_of_another_environment(client, keys) == []


@pytest.mark.server
@pytest.mark.end_to_end
def test_a_worker_of_another_environment_does_not_start(tmp_path: Path) -> None:
    with Pipeline(tmp_path) as pipeline:
        keys_of_another_environment(pipeline.redis, [pipeline.key])
        name = pipeline.start_worker(environment={"OCC_SEALING_KEYS": A.export(), "OCC_EVENT_SOURCE": "occ/staging"})
        assert pipeline.processes.pop(name).wait(timeout=120) == 1
        said = pipeline.output(name).decode()
        assert f"used by another environment, with the sealing keys {pipeline.key.key_id}; give each" in said
        assert "Traceback" not in said

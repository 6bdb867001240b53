"""What an error means: which cause is recorded, whether the store is to blame, and what is remembered all the same."""

import errno

import pytest
import redis

from integrations.connections.causes import CAUSES
from integrations.connections.failures import Failure, failure_of
from integrations.connections.record import Cause
from integrations.errors import CredentialRejected, IntegrationError, PermanentError, RequestRefused, TransientError
from integrations.learnt import Learnt

LEARNT = Learnt(writes=1)


def with_learnt(error: IntegrationError) -> IntegrationError:
    error.learnt = LEARNT
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            TransientError("store_busy", "HTTP 429", retry_after=7),
            Failure(Cause("store_busy", "HTTP 429"), of_store=True, retry_after=7),
        ),
        (PermanentError("slot_refused", "HTTP 400"), Failure(Cause("slot_refused", "HTTP 400"), of_store=True)),
        (
            with_learnt(PermanentError("url_in_doubt")),
            Failure(Cause("url_in_doubt"), of_store=True, learnt=LEARNT),
        ),
        (
            CredentialRejected("HTTP 401"),
            Failure(Cause("key_rejected", "HTTP 401"), of_store=True, key_refused=True),
        ),
        (
            RequestRefused("application_key", "unknown_key_id", "seal it anew"),
            Failure(Cause("credential_unusable", "unknown_key_id")),
        ),
        (redis.ConnectionError("gone"), Failure(Cause("out_of_resources", "our server"))),
        (OSError(errno.EMFILE, "Too many open files"), Failure(Cause("out_of_resources", "files"))),
        (MemoryError(), Failure(Cause("out_of_resources", "memory"))),
        (ValueError("a secret"), Failure(Cause("internal_error", "ValueError"), is_ours=True)),
    ],
    ids=str,
)
def test_every_error_means_something(error: Exception, failure: Failure) -> None:
    assert failure_of(error) == failure
    assert failure.cause.code in CAUSES
    assert "secret" not in str(failure)

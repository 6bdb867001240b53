"""What an error of an attempt means for the connection: its cause, and whether the store has anything to do with it."""

from dataclasses import dataclass

from integrations.connections.record import Cause
from integrations.egress.own_limits import shortage_of
from integrations.errors import CredentialRejected, IntegrationError, RequestRefused, TransientError
from integrations.learnt import Learnt
from integrations.server.trouble import server_shortage


@dataclass(frozen=True, slots=True)
class Failure:
    """`of_store`: the store or the way to it; it counts for what many stores fail of. `is_ours`: a defect of ours.

    `retry_after`: seconds that the store asked for. `key_refused`: the store said no to the application key. `learnt`:
    what is to be remembered of the slot all the same.
    """

    cause: Cause
    of_store: bool = False
    is_ours: bool = False
    retry_after: float | None = None
    key_refused: bool = False
    learnt: Learnt | None = None


def failure_of(error: Exception) -> Failure:
    """Every error means something: work is never left without an outcome."""
    match error:
        case IntegrationError():
            return Failure(
                Cause(error.code, error.detail),
                of_store=True,
                retry_after=error.retry_after if isinstance(error, TransientError) else None,
                key_refused=isinstance(error, CredentialRejected),
                learnt=error.learnt,
            )
        case RequestRefused():  # the sealed key cannot be opened any more: its sealing key was retired
            return Failure(Cause("credential_unusable", error.code))
    if shortage := server_shortage(error) or shortage_of(error):
        return Failure(Cause("out_of_resources", shortage))
    return Failure(Cause("internal_error", type(error).__name__), is_ours=True)

"""What came of one merchant of a bulk command, for people and for programs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from integrations.connections.causes import explain
from integrations.errors import IntegrationError
from occ.cli.exit_codes import ExitCode
from occ.cli.failure import told
from occ.cli.plain_text import one_line

FAILED = "failed"
DONE_BEFORE = "done_before"


@dataclass(frozen=True, slots=True)
class Result:
    """`who`: the merchant, or where something stands that is none. `exit_code` counts if there is nobody else."""

    who: str
    outcome: str
    sentence: str
    merchant_id: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    exit_code: ExitCode = ExitCode.OK

    @property
    def line(self) -> str:
        """As people read it."""
        return one_line(f"{self.who}: {self.sentence}")

    @property
    def object(self) -> dict[str, object]:
        """As programs read it."""
        return {"merchant_id": self.merchant_id, "outcome": self.outcome, **self.details}


def result(merchant_id: str, outcome: str, sentence: str, **details: object) -> Result:
    """What came of a merchant."""
    return Result(merchant_id, outcome, sentence, merchant_id, details)


def failed(error: Exception, merchant_id: str | None, where: str = "", **details: object) -> Result:
    """It could not be done, for this reason."""
    failure = told(error)
    return Result(
        merchant_id or where,
        FAILED,
        str(failure.error["remedy"]),
        merchant_id,
        {**details, "error": failure.error} if merchant_id else {**details, "where": where, "error": failure.error},
        ExitCode(failure.exit_code),
    )


def failed_at_store(error: IntegrationError, merchant_id: str, **details: object) -> Result:
    """The store, or what we keep of it, did not let us: the cause in the words it is explained with everywhere."""
    explanation = explain(error.code)
    evidence = f"{error.code}, {error.detail}" if error.detail else error.code
    about = {"field": None, "code": error.code, "actor": explanation.actor, "remedy": explanation.sentence}
    sentence = f"{explanation.sentence} [{evidence}]"
    return Result(merchant_id, FAILED, sentence, merchant_id, {**details, "error": about}, ExitCode.NEEDS_ATTENTION)

"""Errors named by their consequence: the retry rule is one word, and no text holds a secret.

IntegrationError
|-- TransientError          waiting may help; may say how long the store asked us to wait
`-- PermanentError          somebody must act
    |-- CredentialRejected  the store refused the application key
    |-- AccessTokenRefused  the store refused an access token; a fresh one decides what that means
    `-- SlotNotFound        reading a slot said that there is none to read
RequestRefused              a request we cannot accept: names the field and the remedy
SettingsError               all problems of the settings at once
"""

from collections.abc import Sequence

from integrations.learnt import Learnt


class IntegrationError(Exception):
    """Something between us and a store did not work.

    `code` is stable and explained in `connections/causes.py`. `detail` is short evidence such as "HTTP 503": never
    a body, a header, a key or a token.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.learnt: Learnt | None = None
        """What is to be remembered of a slot although the work on it failed."""


class TransientError(IntegrationError):
    """Waiting may help. `retry_after` is the wait the store asked for, in seconds."""

    def __init__(self, code: str, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class PermanentError(IntegrationError):
    """Somebody must act; trying again at once cannot help."""


class CredentialRejected(PermanentError):
    """The store refused the application key; the merchant has to supply another."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("key_rejected", detail)


class AccessTokenRefused(PermanentError):
    """The store refused an access token: expired, or the application may not make this call."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("access_token_refused", detail)


class SlotNotFound(PermanentError):
    """Reading a slot was answered with 404; its list, and in the end a write, decide whether the store offers it."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("slot_not_offered", detail)


class SlotNotReadable(SlotNotFound):
    """Reading a slot was answered with 405: nothing is said of whether it is there."""


class RequestRefused(Exception):
    """A request we cannot accept. Never repeats a value that could be a secret."""

    def __init__(self, field: str, code: str, remedy: str) -> None:
        super().__init__(f"{field}: {remedy}")
        self.field = field
        self.code = code
        self.remedy = remedy


class SettingsError(Exception):
    """The settings cannot be used; names every problem at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(["These settings need attention:", *(f"  * {problem}" for problem in problems)]))
        self.problems = tuple(problems)

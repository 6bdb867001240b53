"""Why something did not work: one entry per code, saying who must act and what the merchant may be told.

Codes are stable: other systems and operators match on them. Sentences are for people and may be reworded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Actor(StrEnum):
    """Who can mend it."""

    MERCHANT = "merchant"
    OPERATOR = "operator"
    ORACLE = "oracle"
    NOBODY = "nobody"  # waiting is all there is to do


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who must act, and a sentence that can be shown to the merchant."""

    actor: Actor
    sentence: str


CAUSES: Mapping[str, Explanation] = MappingProxyType(
    {
        # The application key
        "key_rejected": Explanation(
            Actor.MERCHANT,
            "The store refused the application key. Create a new key in the Oracle Commerce admin under "
            "Settings > Web APIs > Registered Applications, and connect again with it.",
        ),
        "key_doubted": Explanation(
            Actor.NOBODY,
            "The store refused the application key once. We ask again in a few minutes before we call it rejected.",
        ),
        "new_key_doubted": Explanation(
            Actor.NOBODY,
            "The store refused the new application key once. The one we have goes on working; we ask again in a few "
            "minutes.",
        ),
        "new_key_rejected": Explanation(
            Actor.MERCHANT,
            "The new application key did not prove itself, so the one we have goes on working. Check the key and the "
            "role of its registered application, and send it again.",
        ),
        "key_expiring": Explanation(
            Actor.MERCHANT,
            "The application key is about to expire. Create a new one in the Oracle Commerce admin under Settings > "
            "Web APIs > Registered Applications, and connect again with it; the old one works until then.",
        ),
        "credential_forgotten": Explanation(
            Actor.NOBODY, "The application key was forgotten at once, as was asked, so nothing more can be done there."
        ),
        "permission_denied": Explanation(
            Actor.MERCHANT,
            "The application key works, but the role of its registered application does not allow this call. "
            "Give the application a role that may read shipping methods and change webhooks.",
        ),
        "credential_unusable": Explanation(
            Actor.OPERATOR,
            "The sealed application key can no longer be opened here. The private key it was sealed for is missing; "
            "restore it, or ask the merchant for the key again.",
        ),
        # The store's address
        "not_an_admin_host": Explanation(
            Actor.MERCHANT,
            "The store URL does not lead to an Oracle Commerce admin host. Use the address of the admin console, "
            "not that of the storefront.",
        ),
        "edge_refused": Explanation(
            Actor.OPERATOR,
            "Something in front of the store refused our call. Check the store URL, and whether a firewall of the "
            "store must let our addresses in.",
        ),
        "redirected": Explanation(
            Actor.MERCHANT,
            "The store URL redirects elsewhere, and we never follow a redirect with a key. Use the address it leads "
            "to, if that is the admin host.",
        ),
        "egress_blocked": Explanation(
            Actor.OPERATOR,
            "The store's name leads to an address we do not call, such as a private one.",
        ),
        "tls_failed": Explanation(
            Actor.ORACLE,
            "The store's certificate could not be verified, so no key was sent. Waiting helps if it is being renewed.",
        ),
        "proxy_failed": Explanation(
            Actor.OPERATOR,
            "Our own proxy did not let the call to the store through. We keep trying.",
        ),
        # The store's answers
        "store_unreachable": Explanation(Actor.NOBODY, "The store could not be reached. We keep trying."),
        "store_timeout": Explanation(Actor.NOBODY, "The store did not answer in time. We keep trying."),
        "store_error": Explanation(Actor.ORACLE, "The store answered with an error of its own. We keep trying."),
        "store_busy": Explanation(Actor.NOBODY, "The store asked us to slow down. We go on when it allows."),
        "store_overloaded": Explanation(Actor.ORACLE, "The store is short of capacity for this call. We keep trying."),
        "answer_too_large": Explanation(Actor.ORACLE, "The store's answer was far larger than it should be."),
        "unreadable_answer": Explanation(
            Actor.ORACLE, "The store's answer could not be understood, as during maintenance. We keep trying."
        ),
        "request_refused": Explanation(Actor.OPERATOR, "The store refused a call for a reason we do not know."),
        "token_renewal_pending": Explanation(
            Actor.NOBODY, "Another worker is just renewing the access token. We go on when it has."
        ),
        # Shipping methods
        "no_shipping_methods": Explanation(
            Actor.MERCHANT,
            "The store has no enabled shipping method. Enable one under Settings > Shipping Methods and publish it; we "
            "notice by ourselves.",
        ),
        "shipping_methods_not_found": Explanation(
            Actor.OPERATOR,
            "The store offers no list of shipping methods at the configured path. Set OCC_SHIPPING_METHODS_PATH for "
            "this release of Oracle Commerce.",
        ),
        # Slots
        "slot_not_offered": Explanation(
            Actor.OPERATOR,
            "The store does not offer this webhook. Map the slot to the id the store uses with OCC_SLOTS, or mark it "
            "as not required.",
        ),
        "slot_refused": Explanation(Actor.OPERATOR, "The store refused our callback URL for this webhook."),
        "slot_unreadable": Explanation(
            Actor.OPERATOR,
            "We could not tell which URLs this webhook holds, so we left it alone rather than remove somebody's.",
        ),
        "slot_occupied": Explanation(
            Actor.MERCHANT,
            "This webhook holds one URL only, and somebody else's is in it. Decide which of the two it should be.",
        ),
        "slot_contested": Explanation(
            Actor.OPERATOR,
            "Somebody keeps taking our callback URL out of this webhook, so we stopped putting it back. Find out who "
            "else manages the webhooks of this store, then ask for a repair.",
        ),
        "settings_lost": Explanation(
            Actor.MERCHANT,
            "A header or the basic authentication that this webhook used to send is gone. If that was not meant, enter "
            "it again in the Oracle Commerce admin; we do not write what all receivers share.",
        ),
        "secret_reset": Explanation(
            Actor.OPERATOR,
            "The secret of this webhook was reset in the store. Whoever checks the signatures of its deliveries needs "
            "the new one; after that, ask for a repair to confirm it.",
        ),
        "deliveries_failing": Explanation(
            Actor.OPERATOR,
            "The store has given up deliveries of this webhook: what receives them at our callback URL failed, or "
            "could not be reached. Mend that, then have the store send them again with `occ replay`.",
        ),
        "slot_silent": Explanation(
            Actor.OPERATOR,
            "Nothing was received from this webhook for far longer than ever before, although our callback URL is in "
            "it. Check what receives its deliveries; a store can also have disabled our callback URL after failures, "
            "which cannot be seen from here. It may be that nothing was ordered.",
        ),
        "left_behind": Explanation(
            Actor.MERCHANT,
            "We are disconnected, but our callback URL is still in this webhook. Remove it in the Oracle Commerce "
            "admin under Settings > Web APIs > Webhooks, if it does not go by itself.",
        ),
        "removal_not_kept": Explanation(
            Actor.NOBODY, "The store accepted the removal of our callback URL, but still shows it. We try again."
        ),
        "registration_not_kept": Explanation(
            Actor.NOBODY, "The store accepted our callback URL, but did not keep it. We try again."
        ),
        # Ourselves
        "worker_lost": Explanation(Actor.OPERATOR, "The work stopped before it could finish, several times in a row."),
        "record_unreadable": Explanation(
            Actor.OPERATOR, "This release cannot read the record of the connection; a newer one wrote it."
        ),
        "out_of_resources": Explanation(
            Actor.OPERATOR,
            "We ran short of something of our own, such as open files or memory, before we could call the store. We go "
            "on when there is some.",
        ),
        "internal_error": Explanation(Actor.OPERATOR, "An error of our own stopped this step. We keep trying."),
    }
)


def explain(code: str) -> Explanation:
    """The explanation of a code; an unknown one (a record of a newer release) is the operator's to look at."""
    return CAUSES.get(code) or Explanation(Actor.OPERATOR, f"Unexplained cause {code}; see the logs.")

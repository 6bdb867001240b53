"""Why something did not work: one row per cause, with everything that is known of it. Pure.

Codes are stable: other systems and operators match on them. Sentences are for people and may be reworded. Nothing else
in the product sorts causes by their code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType

from integrations.egress.answer import CallOutcome


class Actor(StrEnum):
    """Who can mend it."""

    MERCHANT = "merchant"
    OPERATOR = "operator"
    ORACLE = "oracle"
    NOBODY = "nobody"  # waiting is all there is to do


class Passing(Enum):
    """Whether an attempt that failed of it is worth repeating soon."""

    YES = "waiting may help"
    NO_ATTEMPT = "our own doing, not the store's: soon again, and it does not count as an attempt"
    NO = "somebody must act"
    WHERE_IT_WORKED = "a wrong address of a new store, but a maintenance page of one that was connected"


class IfNew(Enum):
    """What it says of a store or an application key that has never worked."""

    SAME = "nothing beyond what it says of any other"
    MISTAKE = "most likely the merchant's own mistake, so no sign of an outage"
    BAD_KEY = "the new key is turned down; if the store is at fault, the check with the old key that follows shows it"


class OutageKind(StrEnum):
    """In which way stores fail alike."""

    NETWORK = "network"  # our connectivity, our DNS, our proxy
    STORE = "store"  # Oracle's application
    EDGE = "edge"  # what stands before it: a firewall that no longer knows us, a page about maintenance
    KEY = "key"  # Oracle's identity service refuses every key


class Evidence(Enum):
    """What an attempt says of outages where it did not fail in a way that many stores might share."""

    ANSWERED = "answered"  # the store works
    NOTHING = "nothing"  # the store was not asked


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a cause means. Nothing has a default: a new cause must be judged in every respect.

    `call`: how the call to the store is counted if it got no HTTP status. `sentence` can be shown to the merchant.
    """

    actor: Actor
    passing: Passing
    if_new: IfNew
    evidence: OutageKind | Evidence
    call: CallOutcome
    sentence: str


# fmt: off - one line of facts for each
CAUSES: Mapping[str, Meaning] = MappingProxyType(
    {
        # The application key
        "key_rejected": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.MISTAKE,
            OutageKind.KEY,
            CallOutcome.ERROR,
            "The store refused the application key. Create a new key in the Oracle Commerce admin under "
            "Settings > Web APIs > Registered Applications, and connect again with it.",
        ),
        "key_doubted": Meaning(
            Actor.NOBODY,
            Passing.YES,
            IfNew.MISTAKE,
            OutageKind.KEY,
            CallOutcome.ERROR,
            "The store refused the application key once. We ask again in a few minutes before we call it rejected.",
        ),
        "new_key_doubted": Meaning(
            Actor.NOBODY,
            Passing.YES,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store refused the new application key once. The one we have goes on working; we ask again in a few "
            "minutes.",
        ),
        "new_key_rejected": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The new application key did not prove itself, so the one we have goes on working. Check the key and the "
            "role of its registered application, and send it again.",
        ),
        "key_expiring": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The application key is about to expire. Create a new one in the Oracle Commerce admin under Settings > "
            "Web APIs > Registered Applications, and connect again with it; the old one works until then.",
        ),
        "credential_forgotten": Meaning(
            Actor.NOBODY,
            Passing.NO,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "The application key was forgotten at once, as was asked, so nothing more can be done there.",
        ),
        "permission_denied": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The application key works, but the role of its registered application does not allow this call. "
            "Give the application a role that may read shipping methods and change webhooks.",
        ),
        "credential_unusable": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.BAD_KEY,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "The sealed application key can no longer be opened here. The private key it was sealed for is missing; "
            "restore it, or ask the merchant for the key again.",
        ),
        # The store's address
        "not_an_admin_host": Meaning(
            Actor.MERCHANT,
            Passing.WHERE_IT_WORKED,
            IfNew.MISTAKE,
            OutageKind.EDGE,
            CallOutcome.ERROR,
            "The store URL does not lead to an Oracle Commerce admin host. Use the address of the admin console, "
            "not that of the storefront.",
        ),
        "edge_refused": Meaning(
            Actor.OPERATOR,
            Passing.YES,
            IfNew.SAME,
            OutageKind.EDGE,
            CallOutcome.ERROR,
            "Something in front of the store refused our call. Check the store URL, and whether a firewall of the "
            "store must let our addresses in.",
        ),
        "redirected": Meaning(
            Actor.MERCHANT,
            Passing.WHERE_IT_WORKED,
            IfNew.MISTAKE,
            OutageKind.EDGE,
            CallOutcome.REDIRECTED,
            "The store URL redirects elsewhere, and we never follow a redirect with a key. Use the address it leads "
            "to, if that is the admin host.",
        ),
        "egress_blocked": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.MISTAKE,
            OutageKind.NETWORK,
            CallOutcome.BLOCKED,
            "The store's name leads to an address we do not call, such as a private one.",
        ),
        "tls_failed": Meaning(
            Actor.ORACLE,
            Passing.YES,
            IfNew.SAME,
            OutageKind.NETWORK,
            CallOutcome.TLS,
            "The store's certificate could not be verified, so no key was sent. Waiting helps if it is being renewed.",
        ),
        "proxy_failed": Meaning(
            Actor.OPERATOR,
            Passing.YES,
            IfNew.SAME,
            OutageKind.NETWORK,
            CallOutcome.PROXY,
            "Our own proxy did not let the call to the store through. We keep trying.",
        ),
        # The store's answers
        "store_unreachable": Meaning(
            Actor.NOBODY,
            Passing.YES,
            IfNew.SAME,
            OutageKind.NETWORK,
            CallOutcome.UNREACHABLE,
            "The store could not be reached. We keep trying.",
        ),
        "store_timeout": Meaning(
            Actor.NOBODY,
            Passing.YES,
            IfNew.SAME,
            OutageKind.NETWORK,
            CallOutcome.TIMEOUT,
            "The store did not answer in time. We keep trying.",
        ),
        "store_error": Meaning(
            Actor.ORACLE,
            Passing.YES,
            IfNew.SAME,
            OutageKind.STORE,
            CallOutcome.ERROR,
            "The store answered with an error of its own. We keep trying.",
        ),
        "store_busy": Meaning(
            Actor.NOBODY,
            Passing.YES,
            IfNew.SAME,
            OutageKind.STORE,
            CallOutcome.ERROR,
            "The store asked us to slow down. We go on when it allows.",
        ),
        "store_overloaded": Meaning(
            Actor.ORACLE,
            Passing.YES,
            IfNew.SAME,
            OutageKind.STORE,
            CallOutcome.ERROR,
            "The store is short of capacity for this call. We keep trying.",
        ),
        "answer_too_large": Meaning(
            Actor.ORACLE,
            Passing.YES,
            IfNew.SAME,
            OutageKind.STORE,
            CallOutcome.UNREADABLE,
            "The store's answer was far larger than it should be.",
        ),
        "unreadable_answer": Meaning(
            Actor.ORACLE,
            Passing.YES,
            IfNew.SAME,
            OutageKind.STORE,
            CallOutcome.UNREADABLE,
            "The store's answer could not be understood, as during maintenance. We keep trying.",
        ),
        "request_refused": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.BAD_KEY,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store refused a call for a reason we do not know.",
        ),
        "token_renewal_pending": Meaning(
            Actor.NOBODY,
            Passing.NO_ATTEMPT,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "Another worker is just renewing the access token. We go on when it has.",
        ),
        # Shipping methods
        "no_shipping_methods": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store has no enabled shipping method. Enable one under Settings > Shipping Methods and publish it; we "
            "notice by ourselves.",
        ),
        "shipping_methods_not_found": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store offers no list of shipping methods at the configured path. Set OCC_SHIPPING_METHODS_PATH for "
            "this release of Oracle Commerce.",
        ),
        # Slots
        "slot_not_offered": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store does not offer this webhook. Map the slot to the id the store uses with OCC_SLOTS, or mark it "
            "as not required.",
        ),
        "slot_refused": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store refused our callback URL for this webhook.",
        ),
        "slot_unreadable": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "We could not tell which URLs this webhook holds, so we left it alone rather than remove somebody's.",
        ),
        "slot_occupied": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "This webhook holds one URL only, and somebody else's is in it. Decide which of the two it should be.",
        ),
        "slot_being_written": Meaning(
            Actor.NOBODY,
            Passing.NO_ATTEMPT,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "Another connection of ours is just writing to this webhook of the same store. We go on when it is done.",
        ),
        "slot_contested": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "Somebody keeps taking our callback URL out of this webhook, so we stopped putting it back. Find out who "
            "else manages the webhooks of this store, then ask for a repair.",
        ),
        "store_shared": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "Another connection of ours leads to the same store, so each of its orders is delivered to both. If that "
            "is not meant, disconnect one of the two.",
        ),
        "callback_url_respelt": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store keeps our callback URL in a spelling that leads elsewhere, so we took it out again. Choose an "
            "OCC_CALLBACK_URL that the store keeps as it is (shorter, lower case, without a query), then ask for a "
            "repair.",
        ),
        "url_in_doubt": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "A URL in this webhook came when we wrote ours, or looks like what a store makes of ours, and we "
            "cannot tell whether it is ours or somebody else's. We write no more and take nothing out. If it is "
            "not wanted, remove it in the Oracle Commerce admin under Settings > Web APIs > Webhooks; if it is "
            "somebody else's, ask for a repair.",
        ),
        "urls_altered": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "When we wrote to this webhook, the store made something else of a URL of somebody else's, so we write no "
            "more. Where the webhook is called registered, our callback URL is in it. Compare the URLs in the Oracle "
            "Commerce admin with what their owners want, then ask for a repair.",
        ),
        "urls_multiplied": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "This webhook shows a URL more than once. A write of ours might double it again, so we write nothing. "
            "Remove what is there twice in the Oracle Commerce admin, then ask for a repair.",
        ),
        "url_pushed_out": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "When our callback URL went into this webhook, the store dropped somebody else's. Where it showed that at "
            "once, we put the former list back, without ours; where it showed it later, we no longer had the list, and "
            "you have to enter the URL again. Check the webhook, and make room for one more URL before you ask for a "
            "repair.",
        ),
        "settings_lost": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "A header or the basic authentication that this webhook used to send is gone. If that was not meant, enter "
            "it again in the Oracle Commerce admin; we do not write what all receivers share.",
        ),
        "secret_reset": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The secret of this webhook was reset in the store. Whoever checks the signatures of its deliveries needs "
            "the new one; after that, ask for a repair to confirm it.",
        ),
        "deliveries_failing": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store has given up deliveries of this webhook: what receives them at our callback URL failed, or "
            "could not be reached. Mend that, then have the store send them again with `occ replay`.",
        ),
        "slot_silent": Meaning(
            Actor.OPERATOR,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "Nothing was received from this webhook for far longer than ever before, although our callback URL is in "
            "it. Check what receives its deliveries; a store can also have disabled our callback URL after failures, "
            "which cannot be seen from here. It may be that nothing was ordered.",
        ),
        "left_behind": Meaning(
            Actor.MERCHANT,
            Passing.NO,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "We are disconnected, but our callback URL is still in this webhook. Remove it in the Oracle Commerce "
            "admin under Settings > Web APIs > Webhooks, if it does not go by itself.",
        ),
        "removal_not_kept": Meaning(
            Actor.NOBODY,
            Passing.YES,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store accepted the removal of our callback URL, but still shows it. We try again.",
        ),
        "registration_not_kept": Meaning(
            Actor.ORACLE,
            Passing.YES,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "The store accepted our callback URL, but does not show it. We write it twice at most and then only look; "
            "if this lasts, somebody takes it out at once, or the store does not keep it.",
        ),
        "not_shown_yet": Meaning(
            Actor.NOBODY,
            Passing.YES,
            IfNew.SAME,
            Evidence.ANSWERED,
            CallOutcome.ERROR,
            "Our callback URL went into this webhook moments ago, and the store does not show it. We look again before "
            "we call it removed.",
        ),
        # Ourselves
        "worker_lost": Meaning(
            Actor.OPERATOR,
            Passing.YES,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "The work stopped before it could finish, several times in a row.",
        ),
        "record_unreadable": Meaning(
            Actor.OPERATOR,
            Passing.YES,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "This release cannot read the record of the connection; a newer one wrote it.",
        ),
        "made_way": Meaning(
            Actor.NOBODY,
            Passing.NO_ATTEMPT,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.TIMEOUT,
            "Several stores are slow to answer at the moment. This one made way for the others and is tried again "
            "shortly.",
        ),
        "out_of_resources": Meaning(
            Actor.OPERATOR,
            Passing.NO_ATTEMPT,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "We ran short of something of our own, such as open files or memory, before we could call the store. We go "
            "on when there is some.",
        ),
        "internal_error": Meaning(
            Actor.OPERATOR,
            Passing.YES,
            IfNew.SAME,
            Evidence.NOTHING,
            CallOutcome.ERROR,
            "An error of our own stopped this step. We keep trying.",
        ),
    }
)
# fmt: on


def explain(code: str) -> Meaning:
    """What a code means. An unknown one (a record of a newer release) is the operator's to look at, and may pass."""
    return CAUSES.get(code) or Meaning(
        Actor.OPERATOR,
        Passing.YES,
        IfNew.SAME,
        Evidence.ANSWERED,
        CallOutcome.ERROR,
        f"Unexplained cause {code}; see the logs.",
    )

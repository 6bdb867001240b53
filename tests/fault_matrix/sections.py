"""Which faults strike which calls on which occasions: the matrix before anything is run."""

from dataclasses import dataclass

from tests.fault_matrix import faults
from tests.fault_matrix.faults import FAULTY, Fault, Occasion

_ALL = tuple(Occasion)
_LIVING = (Occasion.ONBOARDING, Occasion.REVALIDATION)
_SLOTS = (*_LIVING, Occasion.DISCONNECT)


@dataclass(frozen=True, eq=False)
class Section:
    """The faults of one call. `target`: what the simulator calls it.

    `needs_write`: a re-validation makes this call only where somebody has taken our URL out.
    """

    title: str
    about: str
    target: str
    occasions: tuple[Occasion, ...]
    faults: tuple[Fault, ...]
    needs_write: bool = False
    of_slot: bool = False


SECTIONS = (
    Section(
        "On the way to the store",
        "Whatever call comes first meets these; the first of a run and of a re-validation is the login.",
        "connection",
        _SLOTS,
        faults.ON_THE_WAY,
    ),
    Section(
        "Login",
        "The exchange of the application key for an access token: `occ.validate_key`, `occ.revalidate_key`, and every "
        "call whose token has ended.",
        "login",
        _ALL,
        (*faults.KEY, *faults.KEY_WITH_AN_END, *faults.ANY_CALL),
    ),
    Section(
        "Shipping methods",
        "`occ.check_shipping_methods`.",
        "shipping_methods",
        (*_LIVING, Occasion.NEW_KEY),
        (*faults.SHIPPING, *faults.TOKEN, *faults.ANY_CALL),
    ),
    Section(
        "Reading a slot",
        "`occ.register_slot` and `occ.disconnect_slot` read before they write.",
        f"read_slot:{FAULTY}",
        _SLOTS,
        (*faults.READ_SLOT, *faults.TOKEN, *faults.ANY_CALL),
        of_slot=True,
    ),
    Section(
        "Writing a slot",
        "`occ.register_slot` where our URL is not in order, `occ.disconnect_slot` where it is there. A re-validation "
        "writes only what somebody has taken out, as here.",
        f"write_slot:{FAULTY}",
        _SLOTS,
        (*faults.WRITE_SLOT, *faults.HABITS, *faults.TOKEN, *faults.ANY_CALL),
        needs_write=True,
        of_slot=True,
    ),
    Section(
        "What others do to a slot",
        "Found by a re-validation.",
        f"slot:{FAULTY}",
        (Occasion.REVALIDATION,),
        faults.DRIFT,
        of_slot=True,
    ),
)

"""What each fault of a store comes to, found by running the real steps against the simulated store.

`python -m tests.fault_matrix` (`./run fault-matrix`) writes docs/faults.md. Nothing in it is a verdict by hand: faults
and the words for them are in `faults.py` and `sections.py`; everything else is what the record said in the end.
"""

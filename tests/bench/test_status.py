"""The benchmark of `occ status` measures what it says; and a page is read when it is asked for, not before."""

import pytest

from tests.bench.status import measure_status

pytestmark = [pytest.mark.server]


def test_the_first_page_reads_one_page_and_a_filter_reads_what_it_has_to() -> None:
    figures = measure_status(sizes=[1200], runs=1)
    assert figures["1200_all_lines"] == 1201  # with the heading
    assert figures["1200_all_records_read"] == figures["1200_filter_that_the_last_one_matches_records_read"] == 1200
    assert figures["1200_filter_that_the_last_one_matches_lines"] == 2
    assert figures["1200_one_merchant_records_read"] == figures["1200_status_that_one_has_records_read"] == 1
    # Three pages and a last look for more, then PING and HELLO, and the pipeline's clock.
    assert figures["1200_all_round_trips"] == 10

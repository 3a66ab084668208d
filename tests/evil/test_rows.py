"""Which test holds which row of the catalogue of bad inputs and of the peers' flaws; no row goes without."""

import ast
from functools import cache
from pathlib import Path

import pytest

from demo.evil_scenarios import SCENARIOS

TESTS = Path(__file__).resolve().parents[1]
ROWS = [
    *(f"C-R{number}" for number in range(1, 17)),
    *(f"C-L{number}" for number in range(1, 7)),
    *(f"C-N{number}" for number in range(1, 11)),
    *(f"C-A{number}" for number in range(1, 16)),
    *(f"C-P{number}" for number in range(1, 17)),
    *(f"V{number}" for number in (1, 2, 3, 4, 5, 6, 7, 12, 14)),
]
TRANSPORT = "evil/test_transport.py::test_a_broken_answer_costs_its_own_news_and_nothing_that_was_known"
REFUSAL = "evil/test_auth.py::test_a_refusal_has_its_sentence_and_costs_nothing_that_was_known"
LISTING = "evil/test_listing_rows.py::test_an_odd_list_loses_nothing"
# A test that takes the row's scenarios by their titles stands for every row that has scenarios.
BY_SCENARIO = {"C-R": TRANSPORT, "C-A": REFUSAL, "C-P": LISTING}
REFUSED = "repositories/test_refused_logins.py"
BY_TEST = {
    "C-R14": ["evil/test_transport.py::test_c_r14_a_wrong_part_on_resume_is_left_for_the_whole"],
    "C-L1": [
        "evil/test_tls.py::test_c_l1_a_self_signed_certificate_is_refused_and_the_ways_out_are_named",
        "test_outbound.py::test_a_certificate_is_judged_as_this_registry_says",
    ],
    "C-L2": [
        "evil/test_tls.py::test_c_l2_a_self_signed_certificate_works_without_validation_and_the_test_warns"
    ],
    "C-L3": ["evil/test_tls.py::test_c_l3_a_certificate_out_of_its_time_is_told_with_the_date"],
    "C-L4": [
        "evil/test_tls.py::test_c_l4_a_certificate_for_another_name_is_refused",
        "evil/test_tls.py::test_c_l4_the_name_is_told_to_the_server_that_needs_it",
    ],
    "C-L5": [
        "evil/test_tls.py::test_c_l5_an_incomplete_chain_is_not_trusted_and_a_complete_one_is",
        "evil/test_tls.py::test_c_l5_a_server_of_old_tls_is_told_so",
        "evil/test_tls.py::test_c_l5_plain_http_behind_an_https_address_is_told_so",
        "evil/test_tls.py::test_c_l5_tls_behind_an_http_address_gets_no_password",
    ],
    "C-L6": [
        "evil/test_tls.py::test_c_l6_a_certificate_renewed_in_the_middle_is_no_trouble",
        "evil/test_tls.py::test_c_l6_a_bad_certificate_in_the_middle_stops_the_data_update_and_costs_nothing",
    ],
    "C-N1": ["evil/test_addresses.py::test_c_n1_every_way_to_write_this_machine_is_blocked"],
    "C-N2": [
        "evil/test_addresses.py::test_c_n2_c_n3_no_packet_goes_to_an_address_of_nobodys_registry",
        "test_outbound.py::test_what_is_not_public_is_blocked",
    ],
    "C-N3": [
        "evil/test_addresses.py::test_c_n2_c_n3_no_packet_goes_to_an_address_of_nobodys_registry",
        "evil/test_addresses.py::test_c_n3_the_name_of_a_clouds_metadata_is_blocked_by_what_it_resolves_to",
    ],
    "C-N4": ["evil/test_addresses.py::test_c_n4_the_address_that_was_looked_at_is_the_one_connected_to"],
    "C-N5": ["evil/test_addresses.py::test_c_n5_a_name_with_one_bad_address_is_refused_whole"],
    "C-N6": [
        "evil/test_addresses.py::test_c_n6_a_redirect_leads_nowhere",
        "evil/test_addresses.py::test_c_n6_a_layer_is_not_fetched_from_where_no_storage_may_be",
    ],
    "C-N7": ["evil/test_addresses.py::test_c_n7_an_address_of_odd_form_is_an_error_of_its_field"],
    "C-N8": ["evil/test_addresses.py::test_c_n8_an_address_is_brought_into_form_or_told_what_to_type"],
    "C-N9": ["evil/test_addresses.py::test_c_n9_the_consoles_own_services_are_no_registry"],
    "C-N10": ["test_outbound.py::test_proxies_and_netrc_of_the_environment_are_ignored"],
    "C-A4": ["evil/test_auth.py::test_c_a4_a_token_that_ends_within_a_blob_is_renewed_and_the_blob_goes_on"],
    "C-A10": [
        f"{REFUSED}::test_c_a10_a_wrong_password_is_tried_three_nights_and_then_no_more",
        "repositories/test_data_update.py::test_a_wrong_password_fails_at_once_and_keeps_what_is_known",
    ],
    "C-A11": ["evil/test_auth.py::test_c_a11_name_and_password_arrive_byte_for_byte"],
    "C-A12": ["evil/test_auth.py::test_c_a12_a_project_that_the_account_no_longer_sees_is_marked_and_kept"],
    "C-A13": [
        "repositories/test_listing.py::test_harbor_1_is_told_apart",
        "repositories/test_harbor1.py::test_a_harbor_2_behind_v1_is_told_apart",
    ],
    "C-A15": [
        "repositories/test_tencent_api.py::test_a_wrong_clock_is_named_with_both_times",
        "repositories/test_tencent_api.py::test_every_code_has_its_sentence",
        "repositories/test_tcr.py::test_an_instance_that_does_not_run_loses_nothing",
    ],
    "C-P5": [
        "evil/test_listing_rows.py::test_c_p5_what_an_offset_shift_hid_is_marked_and_comes_back",
        "repositories/test_removal.py::test_two_complete_data_updates_an_hour_apart_remove_what_both_missed",
    ],
    "C-P8": ["repositories/test_listing.py::test_nested_numeric_and_reserved_names_are_all_listed"],
    "C-P12": ["repositories/test_removal.py::test_a_fifth_may_go_and_no_more"],
    "C-P14": [
        "repositories/test_tcr.py::test_every_page_is_asked_for_by_its_number",
        "repositories/test_tcr.py::test_a_total_that_changes_or_lies_leaves_nothing_out",
    ],
    "C-P15": ["evil/test_listing_rows.py::test_c_p15_the_end_of_the_night_costs_nothing_and_is_said"],
    "C-P16": [
        "repositories/test_jobs.py::test_asking_twice_joins_the_first",
        "repositories/test_jobs.py::test_asking_at_the_same_time_makes_one",
    ],
    "V1": ["evil/test_peer_cves.py::test_v1_cve_2026_33540_a_realm_on_another_origin_gets_no_request"],
    "V2": [
        "evil/test_peer_cves.py::test_v2_cve_2020_15157_a_layer_elsewhere_is_asked_for_without_credentials",
        "repositories/test_pulling.py::test_two_registries_do_not_see_each_others_passwords",
    ],
    "V3": ["evil/test_peer_cves.py::test_v3_cve_2026_2376_the_second_hop_is_looked_at_like_the_first"],
    "V4": ["evil/test_peer_cves.py::test_v4_cve_2026_85471_a_blocked_port_says_the_same_open_or_closed"],
    "V5": ["evil/test_peer_cves.py::test_v5_cve_2026_44971_an_address_with_a_hidden_host_is_no_address"],
    "V6": [
        "evil/test_peer_cves.py::test_v6_cve_2024_3727_a_digest_of_other_form_never_becomes_a_path",
        "repositories/test_pulling.py::test_only_names_of_valid_form_become_part_of_a_path",
    ],
    "V7": [
        "evil/test_peer_cves.py::test_v7_cve_2021_41190_a_manifest_that_is_two_things_is_refused",
        "repositories/test_pulling.py::test_a_manifest_that_is_not_its_digest_is_refused",
    ],
    "V12": ["evil/test_peer_cves.py::test_v12_cve_2024_35195_ticking_validation_again_validates_again"],
    "V14": ["evil/test_secrets.py::test_v14_data_updates_of_every_kind_leave_the_password_nowhere"],
}


@cache
def functions(path: str) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def holding(row: str) -> list[str]:
    """The tests that hold a row."""
    found = list(BY_TEST.get(row, []))
    family = row.rstrip("0123456789")
    if family in BY_SCENARIO and any(scenario.row == row for scenario in SCENARIOS):
        found.append(BY_SCENARIO[family])
    return found


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_test(row: str) -> None:
    assert holding(row), f"no test holds {row}"
    for test in holding(row):
        path, _, name = test.partition("::")
        assert name in functions(path), f"{row}: {path} has no {name}"


def test_no_test_is_named_for_a_row_that_is_none() -> None:
    assert set(BY_TEST) <= set(ROWS)
    assert {scenario.row for scenario in SCENARIOS} <= set(ROWS)

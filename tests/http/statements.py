# ruff: noqa: E501  (a name in one piece is found)
"""Which test shows which normative statement of JSON:API 1.1, by the statement's id.

The ids are those of the machine-readable statements that are published beside the standard. A text
that begins with "-" says why a statement is not a server's, or leaves nothing to be shown.
"""

from __future__ import annotations

from typing import Final

_CLIENT: Final = "- of clients"
_MAY: Final = "- a permission, of which no use is made"
_LATER: Final = "- nothing is left to be done after the answer"

CHECKED: Final = "kit::check_document"
"""Held against every answer that any test of tests/http gets."""

STATEMENTS: Final[dict[str, str]] = {
    "request-content-type": _CLIENT,
    "request-accept": _CLIENT,
    "response-ignore-parameters": _CLIENT,
    "response-content-type": CHECKED,
    "response-unsupported-media-type": "test_negotiation::test_content_types_that_are_not",
    "response-not-acceptable": "test_negotiation::test_accept_headers_that_cannot_be_met",
    "additional-members": CHECKED,
    "ignore-additional-members": "test_statements::test_members_that_nobody_knows_mean_nothing",
    "json-object": "test_hostile::test_every_json_type_in_place_of_every_member",
    "required-top-level": CHECKED,
    "data-errors": CHECKED,
    "optional-top-level": CHECKED,
    "data-included": CHECKED,
    "top-level-links": "test_statements::test_every_link_of_every_document_can_be_fetched",
    "primary-data": CHECKED,
    "logical-collection": "test_collections::test_an_empty_collection_has_one_page",
    "resource-required-top-level": CHECKED,
    "resource-optional-top-level": CHECKED,
    "resource-id-type": CHECKED,
    "resource-id-type-types": CHECKED,
    "resource-unique": "test_writes::test_one_record_has_one_spelling",
    "resource-type-constraints": "unit/test_declare::test_wrong_resource_names",
    "resource-fields": "unit/test_declare::test_wrong_relationships",
    "resource-attributes-key": CHECKED,
    "resource-attributes-reserve-members": "test_values::test_refused",
    "resource-relationships-key": CHECKED,
    "resource-relationships-object": CHECKED,
    "resource-relationships-pagination": _MAY,
    "resource-related-resource-link": (
        "test_statements::test_every_link_of_every_document_can_be_fetched"
    ),
    "resource-related-resource-link-change": (
        "test_statements::test_a_related_link_stays_when_what_it_leads_to_changes"
    ),
    "resource-linkage": "test_relationships::test_linkage",
    "resource-links": "test_collections::test_links_lead_back_to_the_item",
    "resource-link-response": "test_statements::test_every_link_of_every_document_can_be_fetched",
    "resource-identifier-required-members": CHECKED,
    "resource-identifier-optional-member": _MAY,
    "compound-documents-allow": "test_includes::test_include_to_one",
    "compound-documents-top-level-included": CHECKED,
    "compound-documents-full-linkage": CHECKED,
    "compound-documents-duplicates": CHECKED,
    "meta-objects": CHECKED,
    "meta-object-members": "test_collections::test_page_meta_and_links",
    "top-level-links-members": CHECKED,
    "top-level-json-api-member": CHECKED,
    "json-api-type": CHECKED,
    "json-api-version": "test_collections::test_item_shows_attributes_relationships_and_its_own_link",
    "json-api-meta": _MAY,
    "member-name-case": "test_statements::test_names_are_told_apart_by_case",
    "member-name-character": "unit/test_declare::test_wrong_field_names",
    "member-name-allowed-characters-only": "unit/test_declare::test_wrong_field_names",
    "member-name-globally-allowed": "unit/test_declare::test_wrong_field_names",
    "member-name-url-safe": "unit/test_declare::test_wrong_field_names",
    "member-name-allowed-characters": "unit/test_declare::test_wrong_field_names",
    "member-name-reserved-characters": "unit/test_declare::test_wrong_field_names",
    "member-name-at-members-definition": "test_writes::test_at_members_mean_nothing",
    "member-name-at-members-where": "test_writes::test_at_members_mean_nothing",
    "member-name-at-members-no-process": "test_writes::test_at_members_mean_nothing",
    "member-name-at-members-ignore-for-definitions": "test_writes::test_at_members_mean_nothing",
    "fetch-url-support": "test_statements::test_every_link_of_every_document_can_be_fetched",
    "fetch-response-code": "test_statements::test_every_link_of_every_document_can_be_fetched",
    "fetch-primary-data-collection": "test_collections::test_an_empty_collection_has_one_page",
    "fetch-primary-data-single": "test_relationships::test_related_records",
    "fetch-responses-404": "test_collections::test_item_that_is_not_there",
    "fetch-responses-other-status-codes": "test_conditions::test_what_has_not_changed_is_not_sent_again",
    "fetch-responses-error-details": CHECKED,
    "fetch-responses-http-semantics": "test_collections::test_head_answers_like_get_without_a_body",
    "fetch-relationships": "test_statements::test_every_link_of_every_document_can_be_fetched",
    "fetch-relationships-response-200": "test_relationships::test_linkage",
    "fetch-relationships-response-200-primary-data": "test_relationships::test_linkage",
    "fetch-relationships-response-200-self-related": "test_relationships::test_linkage",
    "fetch-relationships-response-404": "test_relationships::test_what_is_not_there",
    "fetch-relationships-response-exists-empty": "test_relationships::test_linkage",
    "fetch-relationships-other-status-codes": (
        "test_conditions::test_what_has_not_changed_is_not_sent_again"
    ),
    "fetch-relationships-other-error-details": CHECKED,
    "fetch-relationships-http-semantics": (
        "test_conditions::test_what_has_not_changed_is_not_sent_again"
    ),
    "inclusion-default": "- nothing is included unless it was asked for",
    "inclusion-include-parameter": "test_includes::test_include_to_one",
    "inclusion-unrequested": "test_includes::test_an_empty_include_asks_for_nothing",
    "inclusion-include-parameter-value": "test_includes::test_nested_includes_bring_each_record_once",
    "inclusion-bad-request": "test_includes::test_includes_that_do_not_exist_are_refused_whole",
    "sparse-fieldsets-parameter": "test_collections::test_sparse_fields_show_only_what_was_asked",
    "sparse-fieldsets-parameter-value": (
        "test_collections::test_sparse_fields_show_only_what_was_asked"
    ),
    "sparse-fieldsets-additional-fields": (
        "test_collections::test_sparse_fields_show_only_what_was_asked"
    ),
    "sorting-option": "test_collections::test_sort_by_several_names_up_and_down",
    "sorting-parameter": "test_collections::test_sort_by_several_names_up_and_down",
    "sorting-parameter-value": "test_collections::test_sort_by_what_cannot_be_sorted_is_refused",
    "sorting-multiple-fields": "test_collections::test_sort_by_several_names_up_and_down",
    "sorting-multiple-fields-order": "test_collections::test_sort_by_several_names_up_and_down",
    "sorting-order": "test_collections::test_sort_by_several_names_up_and_down",
    "sorting-not-supported": "test_collections::test_sort_by_what_cannot_be_sorted_is_refused",
    "sorting-specified-order": "test_keyset_pages::test_pages_are_the_list_both_ways",
    "sorting-default": "test_collections::test_ties_are_decided_by_id",
    "pagination": "test_collections::test_following_next_to_the_end_meets_every_record_once",
    "pagination-links": "test_collections::test_page_meta_and_links",
    "pagination-links-object": "test_collections::test_page_meta_and_links",
    "pagination-keys": "test_collections::test_page_meta_and_links",
    "pagination-unavailable-link": "test_collections::test_page_meta_and_links",
    "pagination-order": "test_keyset_pages::test_pages_are_the_list_both_ways",
    "pagination-page-parameter": "test_collections::test_page_meta_and_links",
    "filtering": "test_filters::test_filter",
    "create-support": "test_writes::test_post_makes_a_record_and_says_where",
    "modify-delete-support": "test_writes::test_delete",
    "crud-atomic": "test_writes::test_a_refused_write_changes_nothing",
    "create-single-resource": "test_hostile::test_every_json_type_in_place_of_every_member",
    "create-type-member": "test_hostile::test_every_json_type_in_place_of_every_member",
    "create-relationships-member": "test_hostile::test_every_json_type_in_place_of_every_member",
    "create-accept-client-generated-ids": "test_writes::test_client_ids_where_they_are_allowed",
    "create-client-generated-ids-key": "test_writes::test_client_ids_that_cannot_be",
    "create-client-generated-ids-uuid": _CLIENT,
    "create-client-generated-ids-forbidden": "test_writes::test_client_ids_where_they_are_not_allowed",
    "create-responses-201-status": "test_writes::test_post_makes_a_record_and_says_where",
    "create-responses-201-location": "test_writes::test_post_makes_a_record_and_says_where",
    "create-responses-201-document": "test_writes::test_post_makes_a_record_and_says_where",
    "create-responses-201-self": "test_writes::test_post_makes_a_record_and_says_where",
    "create-responses-202": _LATER,
    "create-responses-204": "test_writes::test_client_ids_where_they_are_allowed",
    "create-responses-403": "test_permissions::test_only_true_allows",
    "create-responses-404-related": "test_writes::test_related_records_that_do_not_exist",
    "create-responses-409-exists": "test_writes::test_client_ids_where_they_are_allowed",
    "create-responses-409-bad-type": "test_writes::test_type_or_id_other_than_the_url_says",
    "create-responses-409-error-details": "test_writes::test_type_or_id_other_than_the_url_says",
    "create-responses-other-status": "test_writes::test_every_wrong_value_of_a_document_is_reported_at_once",
    "create-responses-other-error-details": CHECKED,
    "create-http-semantics": "test_writes::test_post_makes_a_record_and_says_where",
    "update-patch-resource": "test_hostile::test_every_json_type_in_place_of_every_member",
    "update-patch-resource-members": "test_hostile::test_every_json_type_in_place_of_every_member",
    "update-resource-attributes": "test_writes::test_patch_changes_only_what_is_given",
    "update-interpret-resource-attributes": "test_writes::test_patch_changes_only_what_is_given",
    "update-resource-relationships": "test_relationships::test_to_many_relationships_in_documents",
    "update-interpret-resource-relationships": "test_writes::test_patch_changes_only_what_is_given",
    "update-resource-relationship-value": (
        "test_hostile::test_every_json_type_in_place_of_every_member"
    ),
    "update-resource-relationship-reject-full-replacement": "- it is done",
    "update-resource-relationship-reject-full-replacement-response": "- it is done",
    "update-resource-202-status": _LATER,
    "update-resource-200-status": "test_writes::test_patch_changes_only_what_is_given",
    "update-resource-relationship-200-response": (
        "test_statements::test_the_answer_to_a_patch_is_that_of_a_get"
    ),
    "update-resource-200-meta": "- the record is always shown",
    "update-resource-200-meta-representation": "- the record is always shown",
    "update-resource-204-status": "test_writes::test_patch_changes_only_what_is_given",
    "update-resource-403-status": "test_permissions::test_only_true_allows",
    "update-resource-404-status": "test_statements::test_what_is_not_there_cannot_be_changed",
    "update-resource-404-related": "test_writes::test_related_records_that_do_not_exist",
    "update-resource-409-status": "test_writes::test_a_unique_value_that_is_taken",
    "update-resource-409-no-match": "test_writes::test_type_or_id_other_than_the_url_says",
    "update-resource-409-details": "test_writes::test_type_or_id_other_than_the_url_says",
    "update-resource-other-status": "test_conditions::test_a_write_is_held_against_the_record_alone",
    "update-resource-other-semantics": CHECKED,
    "update-resource-http-semantics": "test_conditions::test_a_write_is_held_against_the_record_alone",
    "respond-patch-to-one-relationship-link": (
        "test_relationships::test_a_to_one_relationship_is_replaced"
    ),
    "patch-to-one-data-member": "test_relationships::test_a_to_one_relationship_is_replaced",
    "patch-to-one-response": "test_relationships::test_a_to_one_relationship_is_replaced",
    "respond-patch-post-delete-to-many-relationship-link": (
        "test_relationships::test_a_to_many_relationship_takes_up_lets_go_and_is_replaced"
    ),
    "patch-post-delete-to-many-data-member": (
        "test_relationships::test_a_to_many_relationship_takes_up_lets_go_and_is_replaced"
    ),
    "patch-to-many-complete-replace": (
        "test_relationships::test_a_to_many_relationship_takes_up_lets_go_and_is_replaced"
    ),
    "post-to-many-add": "test_many_to_many::test_taking_up_letting_go_and_replacing",
    "post-to-many-add-again": "test_many_to_many::test_taking_up_letting_go_and_replacing",
    "post-to-many-response": "test_many_to_many::test_taking_up_letting_go_and_replacing",
    "delete-to-many": "test_many_to_many::test_taking_up_letting_go_and_replacing",
    "delete-to-many-success": "test_many_to_many::test_what_is_not_there",
    "updating-relationship-202-status": _LATER,
    "updating-relationship-204-status": "test_many_to_many::test_taking_up_letting_go_and_replacing",
    "updating-relationship-200-status": "- what is written is what is there afterwards",
    "updating-relationship-200-response": "- what is written is what is there afterwards",
    "updating-relationship-200-meta": "- answered 204",
    "updating-relationship-200-meta-content": "- answered 204",
    "updating-relationship-403-status": (
        "test_relationships::test_permissions_of_both_sides_are_asked_with_what_will_be_stored"
    ),
    "updating-relationship-other-status": "test_conditions::test_relationships",
    "updating-relationship-other-details": CHECKED,
    "update-relationship-http-semantics": "test_conditions::test_relationships",
    "delete-202-status": _LATER,
    "delete-204-status": "test_writes::test_delete",
    "delete-200-status": "- answered 204",
    "delete-404-status": "test_writes::test_delete",
    "deleting-other-status": "test_writes::test_a_record_that_is_still_referred_to",
    "deleting-other-details": CHECKED,
    "deleting-http-semantics": "test_conditions::test_delete_and_put_are_held_against_it_too",
    "query-parameters-non-alpha": "- there are no parameters of its own",
    "query-parameters-under-camel": "- there are no parameters of its own",
    "query-parameters-bad-request": "test_collections::test_parameters_that_nobody_knows_are_refused",
    "error-stop-processing": "test_writes::test_every_wrong_value_of_a_document_is_reported_at_once",
    "error-general": "test_writes::test_every_wrong_value_of_a_document_is_reported_at_once",
    "error-object-key": CHECKED,
    "error-object-members": CHECKED,
}

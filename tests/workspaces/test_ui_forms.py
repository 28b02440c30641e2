"""Forms of pages: the bodies that their fields make, and the fields that errors are about."""

import pytest

from workspaces.problems import Problem, problem, wrong
from workspaces.ui import forms
from workspaces.ui.forms import Attempt, Form


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([("reason", " maps "), ("expires", " ")], {"reason": " maps "}, id="what is blank is left out"),
        pytest.param([("discoverable", "false"), ("discoverable", "true")], {"discoverable": "true"}, id="last counts"),
        pytest.param(
            [("rules.1.target", "a"), ("rules.0.target", "b"), ("rules.0.min_age", ""), ("rules.2.target", "")],
            {"rules": [{"target": "b"}, {"target": "a"}]},
            id="entries by number, without those whose first field is blank",
        ),
        pytest.param([("names.10", "b"), ("names.9", "a"), ("names.2", " ")], {"names": ["a", "b"]}, id="texts"),
        pytest.param([("rules[]", "")], {"rules": []}, id="an empty list"),
        pytest.param([("rules[]", ""), ("rules.0.target", "a")], {"rules": [{"target": "a"}]}, id="not an empty one"),
        pytest.param([("rules.0.target", "a"), ("rules[]", "")], {"rules": [{"target": "a"}]}, id="nor so"),
        pytest.param([("a.b.c", "1"), ("a.d", "")], {"a": {"b": {"c": "1"}}}, id="objects in objects"),
        pytest.param([("a", "1"), ("a.b", "2")], {"a": "1", "b": "2"}, id="both a text and an object"),
        pytest.param([("a.b", "2"), ("a", "1")], {"a": {"b": "2"}}, id="an object, then a text"),
        pytest.param([("a", "1"), ("a[]", "")], {"a": "1"}, id="a text, then a list"),
        pytest.param([("rules.0.at.x", "a")], {"rules": [{"at": {"x": "a"}}]}, id="an object in an entry"),
        pytest.param([("0", "a")], {}, id="no object at all"),
        pytest.param([("rules.0.0", "a")], {"rules": [["a"]]}, id="a list in a list"),
        pytest.param([("rules.²", "a")], {"rules": {"²": "a"}}, id="a digit that is no number"),
        pytest.param([("rules.٣", "a")], {"rules": {"٣": "a"}}, id="a number of another script"),
        pytest.param([(f"rules.{'9' * 5000}", "a")], {"rules": {"9" * 5000: "a"}}, id="a number that nobody counts to"),
    ],
)
def test_the_body_that_fields_make(fields: list[tuple[str, str]], made: object) -> None:
    assert forms.body(fields)[0] == made


def test_a_field_is_as_deep_as_bodies_are() -> None:
    made, _ = forms.body([(".".join("a" * 10_000), "x")])
    assert str(made).count("{") == forms.DEPTH_MAX + 1


def refused(fields: list[tuple[str, str]], why: Problem) -> Attempt:
    _, words = forms.body(fields)
    return forms.attempt("form-x", dict(fields), words, why)


def test_an_error_stands_at_the_field_that_its_place_was_made_of() -> None:
    fields = [("rules.0.target", ""), ("rules.3.target", "a*b"), ("rules.3.min_age", "")]
    found = refused(fields, wrong(("body", "rules", 0, "target"), "must have * only at its end", "a*b"))
    assert (found.problem, found.errors) == ("", {"rules.3.target": "must have * only at its end"})
    found = refused(fields, wrong(("body", "rules", 0, "min_age"), "must be an age", ""))
    assert found.errors == {"rules.3.min_age": "must be an age"}


def test_an_error_of_an_entry_stands_at_the_field_of_all_entries_with_what_was_given() -> None:
    words: forms.Words = {("members",): "names"}
    why = wrong(("body", "members", 1, "name"), "must be a name", "a b")
    found = forms.attempt("form-x", {"names": "joe\na b"}, words, why)
    assert found.errors == {"names": "a b: must be a name"}
    without = forms.attempt("form-x", {"names": ""}, words, wrong(("body", "members", 1), "must be a name", {}))
    assert without.errors == {"names": "must be a name"}


def test_what_is_of_no_field_is_of_the_whole_form() -> None:
    why = wrong(("path", "workspace_name"), "must be a name", "A")
    assert refused([("reason", "x")], why).problem == "path.workspace_name: must be a name"
    taken = refused([], problem(409, "session_exists"))
    assert (taken.problem, taken.word) == ("There is a session of this name", "session_exists")
    assert refused([], Problem(403, "Forbidden")).word == ""
    assert refused([], Problem(422, [{"msg": "odd"}])).problem == ": odd"


def test_what_is_wrong_with_a_field_is_said_once() -> None:
    details = [
        {"loc": ["body", "name"], "msg": "too long", "input": "x"},
        {"loc": ["body", "name"], "msg": "too long", "input": "x"},
        {"loc": ["body", "name"], "msg": "no name", "input": "x"},
    ]
    assert refused([("name", "x")], Problem(422, [*details])).errors == {"name": "too long; no name"}


def test_a_form_that_was_refused_shows_what_was_typed() -> None:
    this = Form("change_role", {"m": "joe"}, None)
    again = Attempt(this.id, {"role": "owner", "m": "joe"}, "no", {"role": "must be admin or user"})
    shown = Form("change_role", {"m": "joe"}, again)
    assert (shown.is_refused, shown.problem, shown.word) == (True, "no", "")
    assert (shown.value("role", "user"), shown.value("other", "x")) == ("owner", "")
    assert (shown.error("role"), shown.error("other")) == ("must be admin or user", "")
    another = Form("change_role", {"m": "jane"}, again)
    assert (this.entries("rules"), another.entries("rules")) == (0, 0)
    assert (another.is_refused, another.problem, another.value("role", "user")) == (False, "", "user")
    assert (another.error("role"), another.word) == ("", "")


def test_ids_are_of_one_text_alone() -> None:
    names = ["a b", "a_b", "a-b", "a_20_b", "ä", "<b>", "a\tb", ""]
    assert len({forms.identifier(name) for name in names}) == len(names)
    assert all(" " not in forms.identifier(name) for name in names)
    assert Form("remove", {"m": "a b"}, None).field_id("x.0") == "form-remove-a_20_b-x_2e_0"


def test_entries_that_were_typed_are_counted() -> None:
    form = Form("check", {}, None)
    typed = dict.fromkeys(("rules.0.target", "rules.7.target", "rules.x.y", "rules.", "other.9.target", "rules"), "")
    assert Form("check", {}, Attempt(form.id, typed)).entries("rules") == 8
    assert form.entries("rules") == 0

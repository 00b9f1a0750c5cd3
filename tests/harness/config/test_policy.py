"""Policies come from files, and a file that is not one is refused with what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.number_format import (
    fiscal_year,
    format_number,
    parse_number,
    period_of,
    read_template,
)
from harness.config.policy import kept_policy, load_policy, plain, policy_names
from harness.model import Continuity, GapBudget, Overflow, Period, Policy, UsageError

JURISDICTIONS = {"fr", "es", "pt", "br-nfe", "de", "it", "uk", "in", "ph", "us", "mx"}


def test_every_preset_loads_under_its_own_name_and_says_what_it_is() -> None:
    for name in policy_names():
        policy = load_policy(name)
        assert policy.name == name
        assert policy.summary.endswith(".")
        assert bool(policy.source) == (name in JURISDICTIONS)


def test_the_presets_that_the_design_names_exist() -> None:
    wanted = {"unique", "gapless", "explained", "budget", "payments-yearly", "company-series", "branch-daily"}
    assert wanted | JURISDICTIONS <= set(policy_names())


def test_a_file_says_everything_that_a_policy_can_say(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(
        """
        name = "ours"
        scope_keys = ["company"]
        period = "fiscal_year"
        time_zone = "Asia/Manila"
        fiscal_start_month = 4
        format = "INV/{fy}/{000}"
        overflow = "error"
        maximum = 999
        max_length = 16
        charset = "A-Z0-9/-"
        unique_per = "period"
        start = 5
        continuity = "budget"
        real_time_order = true
        dates_ascend = true
        voids_allowed = false
        void_reason_required = false
        [budget]
        normal = 0.01
        investigate = 0.02
        minimum_sample = 10
        significance = 0.1
        denominator = "issued"
        """
    )
    assert load_policy(path) == Policy(
        name="ours",
        scope_keys=("company",),
        period=Period.FISCAL_YEAR,
        time_zone="Asia/Manila",
        fiscal_start_month=4,
        format="INV/{fy}/{000}",
        overflow=Overflow.ERROR,
        maximum=999,
        max_length=16,
        charset="A-Z0-9/-",
        unique_per="period",
        start=5,
        continuity=Continuity.BUDGET,
        real_time_order=True,
        dates_ascend=True,
        voids_allowed=False,
        void_reason_required=False,
        budget=GapBudget(normal=0.01, investigate=0.02, minimum_sample=10, significance=0.1, denominator="issued"),
    )


@pytest.mark.parametrize("name", policy_names())
def test_a_policy_that_a_run_keeps_is_read_as_it_was(name: str) -> None:
    policy = load_policy(name)
    asked = orjson.loads(orjson.dumps({"policy": "gone", "policy_rules": plain(policy)}))

    assert kept_policy(asked) == policy
    assert kept_policy({"policy": name}) == policy


def test_a_file_without_a_name_is_called_like_the_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text('continuity = "gapless"')
    assert load_policy(str(path)) == Policy(name="shop", continuity=Continuity.GAPLESS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('continuty = "gapless"', "unknown field 'continuty'; did you mean 'continuity'?"),
        ("[budget]\nnormall = 0.1", "unknown field budget.normall; did you mean 'normal'?"),
        ("budget = 3", "budget must be a table"),
        (
            'continuity = "gaples"',
            "continuity must be one of none, explained, budget, gapless, not 'gaples'; did you mean 'gapless'?",
        ),
        ("period = 3", "period must be one of none, year, fiscal_year, month, day, not 3"),
        ('start = "1"', "start must be a whole number, 0 or more, not '1'"),
        ("start = true", "start must be a whole number, 0 or more, not True"),
        ("start = -1", "start must be a whole number, 0 or more, not -1"),
        ("[budget]\nnormal = 3", "budget.normal must be a share between 0 and 1 (0.05 is 5 %), not 3"),
        ("[budget]\nnormal = true", "budget.normal must be a share"),
        ("[budget]\nnormal = 0.2", "budget.normal (0.2) is above budget.investigate (0.05)"),
        ('[budget]\ndenominator = "all"', "budget.denominator must be range or issued, not 'all'"),
        ('real_time_order = "yes"', "real_time_order must be true or false, not 'yes'"),
        ('scope_keys = "company"', "scope_keys must be a list of argument names"),
        ('scope_keys = ["a b"]', "scope_keys must be a list of argument names"),
        ("format = 5", "format must be text, not 5"),
        ('format = "INV-{000"', "the number format 'INV-{000' has a brace without its partner"),
        ('format = "INV"', "the number format 'INV' has 0 number fields and needs one"),
        ('time_zone = "Mars/Base"', "time_zone 'Mars/Base' is not known"),
        ('time_zone = "/etc/passwd"', "time_zone '/etc/passwd' is not known"),
        ("fiscal_start_month = 13", "fiscal_start_month must be a month from 1 to 12, not 13"),
        ("fiscal_start_month = 0", "fiscal_start_month must be a month from 1 to 12, not 0"),
        ("maximum = 4\nstart = 5", "maximum (4) is below start (5)"),
        ('charset = "z-a"', "charset 'z-a' is not the inside of a character class"),
        ('unique_per = "month"', "unique_per must be ever or period, not 'month'"),
        ("x = [", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_cure(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_policy(path)
    assert str(path) in str(refused.value)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["fiscal_start_month = 12", "fiscal_start_month = 1", "maximum = 5\nstart = 5"])
def test_values_at_their_bounds_are_allowed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    load_policy(path)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no policy is called 'gaplesss'; did you mean 'gapless'"):
        load_policy("gaplesss")


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot read the policy nowhere/x.toml: No such file"):
        load_policy("nowhere/x.toml")


def test_the_formats_of_the_case_files_print_as_documented() -> None:
    when = datetime(2025, 11, 22, tzinfo=UTC)
    assert format_number("PAY{yyyy}{0000}", 6, when) == "PAY20250006"
    assert format_number("INV-{00000}", 4, when) == "INV-00004"
    assert format_number("Inv{branch}{MM_DD_YYYY}_{0000}", 5, when, {"branch": "Bambang"}) == "InvBambang11_22_2025_0005"
    assert format_number("{yy}/{fy}-{0}", 12, when, fiscal_start=4) == "25/2025-26-12"


LITERALS = st.text(alphabet="ABCxyz-/_. ", max_size=4)
DATES = st.sampled_from(["yyyy", "yy", "mm", "dd", "MM_DD_YYYY", "yyyy-mm-dd", "fy"])


@st.composite
def templates(draw: st.DrawFn) -> str:
    """Templates that no printed number can be read in two ways: scope keys have a separator after them."""
    fields = draw(st.lists(DATES.map(lambda d: f"{{{d}}}"), max_size=3))
    if draw(st.booleans()):
        fields.insert(0, "{branch}#")
    fields.append(f"{{{'0' * draw(st.integers(1, 8))}}}")
    return draw(LITERALS) + "".join(f"{f}{draw(LITERALS)}" for f in fields)


@given(
    template=templates(),
    number=st.integers(0, 10**12),
    when=st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31)),
    branch=st.text(alphabet="ABC019 ", min_size=1, max_size=5),
)
def test_what_is_printed_reads_back(template: str, number: int, when: datetime, branch: str) -> None:
    text = format_number(template, number, when, {"branch": branch}, fiscal_start=4)
    read = parse_number(template, text)
    assert read is not None
    assert read.number == number
    assert len(read.digits) == max(read_template(template).width, len(str(number)))
    if "{branch}" in template:
        assert read.scope == {"branch": branch}
    if "{yyyy}" in template:
        assert read.dates["yyyy"] == f"{when.year:04d}"


@given(text=st.text(alphabet="PAY0123456789-x", max_size=14))
def test_what_reads_back_prints_the_same(text: str) -> None:
    read = parse_number("PAY{yyyy}{0000}", text)
    if read is not None:
        assert format_number("PAY{yyyy}{0000}", read.number, datetime(int(read.dates["yyyy"]) or 1, 1, 1)) in (
            text,
            "PAY0001" + text[7:],  # there is no year 0
        )


@pytest.mark.parametrize("text", ["INV-0004", "INV-000004", "inv-00004", "INV-00004 ", "INV-٠٠٠٠٤", "INV-", ""])
def test_what_was_never_printed_does_not_read(text: str) -> None:
    assert parse_number("INV-{00000}", text) is None


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("INV", "has 0 number fields"),
        ("{0}{0}", "has 2 number fields"),
        ("{branch}{000}", "nothing separates 'branch' from '000'"),
        ("{000}{branch}", "nothing separates '000' from 'branch'"),
        ("{a}{b}-{0}", "nothing separates 'a' from 'b'"),
        ("{}-{0}", "has a field {} that is neither"),
        ("{a-b}-{0}", "has a field {a-b} that is neither"),
        ("{-}{0}", "has a field {-} that is neither"),
        ("}{0}", "has a brace without its partner"),
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_template(template)
    assert complaint in str(refused.value)


def test_a_scope_value_that_is_missing_and_a_negative_number_are_refused() -> None:
    with pytest.raises(UsageError, match="needs a value for 'branch'"):
        format_number("{branch}-{0}", 1, datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="cannot be negative"):
        format_number("{0}", -1, datetime(2026, 1, 1))


def test_a_moment_falls_into_the_period_of_the_policys_time_zone() -> None:
    moment = datetime(2026, 12, 31, 16, 0, tzinfo=UTC)

    def period(kind: Period, zone: str = "Asia/Manila", month: int = 1) -> str:
        return period_of(Policy(name="x", period=kind, time_zone=zone, fiscal_start_month=month), moment)

    assert period(Period.NONE) == ""
    assert period(Period.YEAR) == "2027"
    assert period(Period.YEAR, "UTC") == "2026"
    assert period(Period.MONTH) == "2027-01"
    assert period(Period.DAY) == "2027-01-01"
    assert period(Period.FISCAL_YEAR, month=4) == "2026-27"
    assert period(Period.FISCAL_YEAR, month=1) == "2027"


def test_a_fiscal_year_begins_on_the_first_of_its_month() -> None:
    first = datetime(2026, 4, 1)
    assert fiscal_year(first, 4) == "2026-27"
    assert fiscal_year(first - timedelta(days=1), 4) == "2025-26"
    assert fiscal_year(datetime(1999, 12, 31), 4) == "1999-00"

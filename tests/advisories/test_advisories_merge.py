from tidewaiter.advisories.advisory import Advisory
from tidewaiter.advisories.merge import Hit, group


def grouped(*advisories: Advisory) -> list[tuple[list[str], set[str]]]:
    groups = group(Hit(advisory, advisory.id) for advisory in advisories)
    return [(sorted(hit.value for hit in item.hits), item.names) for item in groups]


def test_entries_that_share_a_name_are_one_vulnerability() -> None:
    """Aliases join in either direction and through a third entry, and all names are kept."""
    found = grouped(
        Advisory(id="PYSEC-1", aliases=("CVE-2024-1",)),
        Advisory(id="GHSA-b", aliases=("OTHER-9",)),
        Advisory(id="GHSA-a", aliases=("CVE-2024-1", "OTHER-9")),
        Advisory(id="GHSA-c"),
    )
    assert found == [
        (["GHSA-c"], {"GHSA-c"}),
        (["GHSA-a", "GHSA-b", "PYSEC-1"], {"PYSEC-1", "CVE-2024-1", "GHSA-a", "OTHER-9", "GHSA-b"}),
    ]


def test_a_distributions_entry_is_joined_by_the_cve_it_is_about() -> None:
    """`upstream` names the vulnerability as an alias does."""
    assert len(grouped(Advisory(id="DEBIAN-CVE-2024-1", upstream=("CVE-2024-1",)), Advisory(id="CVE-2024-1"))) == 1


def test_a_bulletin_does_not_glue_vulnerabilities_together() -> None:
    """An entry for two CVEs joins the findings of both, which stay two."""
    found = grouped(
        Advisory(id="DEBIAN-CVE-2024-1", upstream=("CVE-2024-1",)),
        Advisory(id="DEBIAN-CVE-2024-2", upstream=("CVE-2024-2",)),
        Advisory(id="DSA-5", upstream=("CVE-2024-1", "CVE-2024-2")),
    )
    assert found == [
        (["DEBIAN-CVE-2024-1", "DSA-5"], {"DEBIAN-CVE-2024-1", "CVE-2024-1", "DSA-5"}),
        (["DEBIAN-CVE-2024-2", "DSA-5"], {"DEBIAN-CVE-2024-2", "CVE-2024-2", "DSA-5"}),
    ]


def test_a_bulletin_is_its_own_finding_while_one_of_its_cves_has_none() -> None:
    """No CVE that only a bulletin names gets lost."""
    found = grouped(
        Advisory(id="DEBIAN-CVE-2024-1", upstream=("CVE-2024-1",)),
        Advisory(id="DSA-5", upstream=("CVE-2024-1", "CVE-2024-3")),
    )
    assert [members for members, _ in found] == [["DEBIAN-CVE-2024-1"], ["DSA-5"]]
    assert set().union(*(names for _, names in found)) >= {"CVE-2024-1", "CVE-2024-3"}


def test_an_entry_that_another_calls_its_alias_is_one_with_it() -> None:
    """A bulletin named as an alias joins with all of its CVEs."""
    found = grouped(
        Advisory(id="PYSEC-1", aliases=("CVE-2024-1", "GHSA-a")),
        Advisory(id="GHSA-a", aliases=("CVE-2024-1", "CVE-2024-2")),
    )
    assert found == [(["GHSA-a", "PYSEC-1"], {"PYSEC-1", "GHSA-a", "CVE-2024-1", "CVE-2024-2"})]


def test_groups_do_not_depend_on_the_order_of_entries() -> None:
    """The same entries in any order give the same groups in the same order."""
    entries = [Advisory(id=f"X-{number}", aliases=(f"CVE-1-{number // 3}",)) for number in range(12)]
    assert grouped(*entries) == grouped(*reversed(entries))


def test_a_long_chain_of_entries_is_one_vulnerability() -> None:
    """Each entry names the next; joining them takes no longer for every entry that was joined before."""
    count = 20_000
    (found,) = grouped(*(Advisory(id=f"X-{number:05}", aliases=(f"X-{number + 1:05}",)) for number in range(count)))
    assert (len(found[0]), len(found[1])) == (count, count + 1)

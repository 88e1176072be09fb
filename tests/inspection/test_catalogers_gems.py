import time

import pytest

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import gems
from tidewaiter.inspection.layer_facts import Collector, FoundPackage, OsRelease
from tidewaiter.inspection.naming import ecosystem, purl

PATH = "usr/local/bundle/specifications/rack-protection-3.1.0.gemspec"
SPECIFICATION = """\
# -*- encoding: utf-8 -*-
# stub: rack-protection 3.1.0 ruby lib

Gem::Specification.new do |s|
  s.name = "rack-protection".freeze
  s.version = "3.1.0"

  s.required_rubygems_version = Gem::Requirement.new(">= 0".freeze) if s.respond_to? :required_rubygems_version=
  s.authors = ["One".freeze, "Two \\"2\\"".freeze]
  s.licenses = ["MIT".freeze, "something of ours".freeze]
  s.summary = "Protect against typical web attacks".freeze

  s.add_runtime_dependency(%q<rack>.freeze, ["~> 2.2".freeze, ">= 2.2.4".freeze])
  s.add_development_dependency(%q<rspec>.freeze, ["~> 3".freeze])
  s.add_dependency(%q<base64>.freeze, [">= 0.1.0".freeze])
  s.name = "other"
end
"""


def read(data: str | bytes, path: str = PATH) -> tuple[tuple[FoundPackage, ...], list[str]]:
    collector = Collector()
    gems.CATALOGER.read(path, data.encode() if isinstance(data, str) else data, collector)
    return collector.packages.get(path, ()), [note.reason for note in collector.unread]


def test_a_gem_is_read_without_running_it() -> None:
    """Name, version, licences, authors and what it needs at run time come from the lines that RubyGems writes."""
    (package,), notes = read(SPECIFICATION)
    assert package == FoundPackage(
        kind="gem",
        name="rack-protection",
        version="3.1.0",
        location=PATH,
        licenses=("MIT", "something of ours"),
        supplier='One, Two \\"2\\"',
        description="Protect against typical web attacks",
        depends=("base64", "rack"),
    )
    assert notes == []
    assert purl(package, OsRelease()) == "pkg:gem/rack-protection@3.1.0"
    assert ecosystem(package, OsRelease()) == "RubyGems"


def test_an_old_specification_is_read() -> None:
    """RubyGems of long ago wrote one licence, and the version as an object."""
    old = '  s.name = %q{x}\n  s.name = "json"\n  s.version = Gem::Version.new("1.8.6")\n  s.license = "Ruby"\n'
    (package,), _ = read(old.replace("  s.name = %q{x}\n", ""))
    assert (package.name, package.version, package.licenses) == ("json", "1.8.6", ("Ruby",))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (PATH, True),
        ("usr/lib/ruby/gems/3.1.0/specifications/default/json-2.6.1.gemspec", True),
        ("srv/app/app.gemspec", False),
        ("specifications/x.rb", False),
    ],
)
def test_only_installed_gems_are_read(path: str, wanted: bool) -> None:
    """A specification counts where RubyGems keeps those of what is installed."""
    assert gems.CATALOGER.wants(path) is wanted


@pytest.mark.parametrize(
    "data",
    [
        "",
        "s.name = \nend",
        '  s.name = "a b"\n  s.version = "1"\n',
        '  s.name = "a"\n  s.version = "$(id)"\n',
        b"\xff" * 99,
    ],
    ids=range(5),
)
def test_a_specification_without_name_and_version_is_noted(data: str | bytes) -> None:
    """What cannot be a gem is said to be unread."""
    packages, notes = read(data)
    assert packages == ()
    assert notes == ["it does not state a name and version that RubyGems allows"]


def test_hostile_quotes_cost_no_time() -> None:
    """Lines full of unfinished texts are read in linear time."""
    started = time.monotonic()
    line = '  s.name = "' + '\\"' * 100_000
    packages, _ = read("\n".join([line] * (limits.MIB // len(line))))
    assert packages == ()
    assert time.monotonic() - started < 2

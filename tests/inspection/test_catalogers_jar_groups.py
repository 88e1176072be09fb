import pytest

from tidewaiter.inspection.catalogers import jar_groups


@pytest.mark.parametrize(
    ("artifact", "manifest", "group"),
    [
        ("micrometer-core", {"Implementation-Title": "io.micrometer#micrometer-core;1.13.4"}, "io.micrometer"),
        ("other", {"Implementation-Title": "io.micrometer#micrometer-core;1.13.4"}, ""),
        ("config", {"Implementation-Vendor-Id": "com.typesafe", "Bundle-SymbolicName": "a.b.config"}, "com.typesafe"),
        ("x", {"Implementation-Vendor-Id": "The Company"}, ""),
        ("spring-core", {"Automatic-Module-Name": "spring.core"}, "org.springframework"),
        ("spring-boot", {}, "org.springframework.boot"),
        ("spring-boot-actuator", {}, "org.springframework.boot"),
        ("spring-corex", {}, ""),
        ("jna-platform", {"Bundle-SymbolicName": "com.sun.jna.platform"}, "net.java.dev.jna"),
    ],
    ids=range(9),
)
def test_groups_that_are_stated_or_known(artifact: str, manifest: dict[str, str], group: str) -> None:
    """What a build tool wrote as the group is taken, and what is known of common artifacts; nothing is guessed."""
    assert jar_groups.group(artifact, manifest) == group


@pytest.mark.parametrize(
    ("artifact", "symbolic", "group"),
    [
        ("scala-swing", "org.scala-lang.modules.scala-swing", "org.scala-lang.modules"),
        ("jackson-core", "com.fasterxml.jackson.core.jackson-core;singleton:=true", "com.fasterxml.jackson.core"),
        ("maven-core", "org.apache.maven.core", "org.apache.maven"),
        ("brave-context-slf4j", "io.zipkin.brave.context-slf4j", "io.zipkin.brave"),
        ("something", "org.example.something", "org.example.something"),
        ("fish", "org.example.inject", ""),
        ("micrometer-core", "micrometer-core", ""),
        ("core", "some.core", ""),
        ("x", "", ""),
    ],
    ids=range(9),
)
def test_a_bundles_symbolic_name_is_taken_apart_as_it_was_put_together(
    artifact: str, symbolic: str, group: str
) -> None:
    """Group and artifact joined by a point, the artifact without the group's last word, or the group alone."""
    assert jar_groups.group(artifact, {"Bundle-SymbolicName": symbolic}) == group

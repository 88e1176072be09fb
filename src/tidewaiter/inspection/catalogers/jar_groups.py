"""The Maven group of an archive that holds no `pom.properties`, as builds by Gradle, Ant and sbt leave none.

Without its group an artifact is found in no advisory; with a wrong one neither. So only what a build tool writes by
rule is taken, and what is known of artifacts that are often met.
"""

import re

# By the beginning of the artifact's name; the longest that fits counts. `-` at the end: any artifact that begins so.
_KNOWN = {
    "aopalliance": "aopalliance",
    "armeria": "com.linecorp.armeria",
    "armeria-": "com.linecorp.armeria",
    "bcpkix-": "org.bouncycastle",
    "bcprov-": "org.bouncycastle",
    "bcutil-": "org.bouncycastle",
    "brave": "io.zipkin.brave",
    "caffeine": "com.github.ben-manes.caffeine",
    "checker-qual": "org.checkerframework",
    "elasticsearch": "org.elasticsearch",
    "grpc-api": "io.grpc",
    "grpc-auth": "io.grpc",
    "grpc-context": "io.grpc",
    "grpc-core": "io.grpc",
    "grpc-inprocess": "io.grpc",
    "grpc-netty": "io.grpc",
    "grpc-netty-shaded": "io.grpc",
    "grpc-okhttp": "io.grpc",
    "grpc-protobuf": "io.grpc",
    "grpc-protobuf-lite": "io.grpc",
    "grpc-services": "io.grpc",
    "grpc-stub": "io.grpc",
    "grpc-util": "io.grpc",
    "guice": "com.google.inject",
    "hamcrest": "org.hamcrest",
    "hamcrest-core": "org.hamcrest",
    "hamcrest-library": "org.hamcrest",
    "javax.inject": "javax.inject",
    "jna": "net.java.dev.jna",
    "jna-platform": "net.java.dev.jna",
    "junit-jupiter": "org.junit.jupiter",
    "junit-jupiter-": "org.junit.jupiter",
    "kafka-clients": "org.apache.kafka",
    "kafka-streams": "org.apache.kafka",
    "kotlin-reflect": "org.jetbrains.kotlin",
    "kotlin-stdlib": "org.jetbrains.kotlin",
    "kotlin-stdlib-": "org.jetbrains.kotlin",
    "lombok": "org.projectlombok",
    "lucene-": "org.apache.lucene",
    "mockito-core": "org.mockito",
    "okhttp": "com.squareup.okhttp3",
    "okio": "com.squareup.okio",
    "okio-jvm": "com.squareup.okio",
    "opentelemetry-api": "io.opentelemetry",
    "opentelemetry-sdk": "io.opentelemetry",
    "reactive-streams": "org.reactivestreams",
    "reactor-core": "io.projectreactor",
    "reactor-netty": "io.projectreactor.netty",
    "reactor-netty-": "io.projectreactor.netty",
    "scala-compiler": "org.scala-lang",
    "scala-library": "org.scala-lang",
    "scala-reflect": "org.scala-lang",
    "spring-aop": "org.springframework",
    "spring-aspects": "org.springframework",
    "spring-beans": "org.springframework",
    "spring-boot": "org.springframework.boot",
    "spring-boot-": "org.springframework.boot",
    "spring-context": "org.springframework",
    "spring-context-": "org.springframework",
    "spring-core": "org.springframework",
    "spring-expression": "org.springframework",
    "spring-jcl": "org.springframework",
    "spring-jdbc": "org.springframework",
    "spring-jms": "org.springframework",
    "spring-messaging": "org.springframework",
    "spring-orm": "org.springframework",
    "spring-oxm": "org.springframework",
    "spring-r2dbc": "org.springframework",
    "spring-security-": "org.springframework.security",
    "spring-test": "org.springframework",
    "spring-tx": "org.springframework",
    "spring-web": "org.springframework",
    "spring-webflux": "org.springframework",
    "spring-webmvc": "org.springframework",
    "spring-websocket": "org.springframework",
    "zipkin": "io.zipkin.zipkin2",
    "zipkin-collector": "io.zipkin.zipkin2",
    "zipkin-collector-": "io.zipkin.zipkin2",
    "zipkin-server": "io.zipkin",
    "zipkin-storage-": "io.zipkin.zipkin2",
}
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]*(?:\.[A-Za-z0-9_\-]+)*")
# Gradle's plugins of Netflix (nebula) write all coordinates into the title.
_COORDINATES = re.compile(r"(?P<group>[^#;\s]+)#(?P<artifact>[^#;\s]+);\S+")


def _known(artifact: str) -> str:
    fits = [name for name in _KNOWN if artifact == name or (name[-1] == "-" and artifact.startswith(name))]
    return _KNOWN[max(fits, key=len)] if fits else ""


def _of_symbolic_name(symbolic: str, artifact: str) -> str:
    """What Apache Felix's bundle plugin makes of group and artifact, undone; empty when it has made something else.

    The plugin joins both by a point, leaves the artifact out where it repeats the group's last word, and leaves out
    that word where the artifact begins with it.
    """
    front, point, last = symbolic.rpartition(".")
    if not point or "." not in front:
        return ""
    if last == artifact:
        return front if "-" in artifact else symbolic
    return front if artifact == f"{front.rpartition('.')[2]}-{last}" else ""


def group(artifact: str, manifest: dict[str, str]) -> str:
    """The group of `artifact`; empty when nothing tells it."""
    title = _COORDINATES.fullmatch(manifest.get("Implementation-Title", ""))
    symbolic = manifest.get("Bundle-SymbolicName", "").partition(";")[0].strip()
    for found in (
        title["group"] if title and title["artifact"] == artifact else "",
        _known(artifact),
        manifest.get("Implementation-Vendor-Id", ""),
        _of_symbolic_name(symbolic, artifact),
    ):
        if _GROUP.fullmatch(found):
            return found
    return ""

"""The table of all settings: name, variable, default, meaning.

`docs/reference/settings.md` is compared with it by a test.
"""

import msgspec


class Setting(msgspec.Struct, frozen=True):
    """One documented setting: its name in `settings.toml`, its variable, its default as written, its meaning."""

    name: str
    variable: str
    default: str
    meaning: str


STRICTEST = "production once there are environment tables"
FROM_CI = "what GitLab CI, GitHub Actions or Jenkins say"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "home",
        "TIDEWAITER_HOME",
        "the platform's user data folder",
        "Folder that holds settings, catalog, store, cache and keys.",
    ),
    Setting(
        "database_url",
        "TIDEWAITER_DATABASE_URL",
        "",
        "PostgreSQL database for the catalog, as postgresql://USER:PASSWORD@HOST:PORT/DATABASE with libpq's parameters;"
        " a secret. Empty: SQLite, `catalog.db` in the home.",
    ),
    Setting(
        "debian_mirror",
        "TIDEWAITER_DEBIAN_MIRROR",
        "http://deb.debian.org",
        "Host (and path prefix) that carries `debian` and `debian-security`.",
    ),
    Setting(
        "debian_snapshot",
        "TIDEWAITER_DEBIAN_SNAPSHOT",
        "https://snapshot.debian.org/archive",
        "Where packages are looked up that the archive has dropped; empty turns it off.",
    ),
    Setting(
        "python_index",
        "TIDEWAITER_PYTHON_INDEX",
        "https://pypi.org/simple",
        "Index that `lock` resolves requirements against.",
    ),
    Setting(
        "python_mirror",
        "TIDEWAITER_PYTHON_MIRROR",
        "",
        "Index where locked wheels are looked up by name, file name and hash, instead of the address in the lock; "
        "packages of `[[python.indexes]]` are not asked for there. Empty: the address in the lock.",
    ),
    Setting(
        "python_mirror_fallback",
        "TIDEWAITER_PYTHON_MIRROR_FALLBACK",
        "no",
        "`yes`: a wheel that the mirror does not have is taken from the address in the lock. `no`: it is an error.",
    ),
    Setting(
        "osv_mirror",
        "TIDEWAITER_OSV_MIRROR",
        "https://osv-vulnerabilities.storage.googleapis.com",
        "Where `advisories update` fetches OSV bulk exports.",
    ),
    Setting(
        "kev_feed",
        "TIDEWAITER_KEV_FEED",
        "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
        "Where `advisories update` fetches CISA's catalogue of known exploited vulnerabilities (KEV).",
    ),
    Setting(
        "epss_feed",
        "TIDEWAITER_EPSS_FEED",
        "https://epss.empiricalsecurity.com/epss_scores-current.csv.gz",
        "Where `advisories update` fetches EPSS's scores.",
    ),
    Setting(
        "plain_http",
        "TIDEWAITER_PLAIN_HTTP",
        "",
        "Registries, as HOST[:PORT] separated by commas, that are spoken to without TLS. Never implied.",
    ),
    Setting(
        "ca_file",
        "TIDEWAITER_CA_FILE",
        "",
        "PEM file of certificate authorities that are trusted beside the system's, for every host.",
    ),
    Setting(
        "certificates",
        "TIDEWAITER_CERTIFICATES",
        "certs.d in the home",
        "Folder in Docker's layout: `HOST[:PORT]/*.crt` are authorities, `NAME.cert` and `NAME.key` a client "
        "certificate, for that host only.",
    ),
    Setting(
        "threads",
        "TIDEWAITER_THREADS",
        "the number of processors",
        "Threads that build and inspect layers.",
    ),
    Setting(
        "builder",
        "TIDEWAITER_BUILDER",
        "auto",
        "What builds Dockerfiles: `buildctl`, `buildah` or `docker` (its buildx); `auto` takes the first of them that "
        "works here.",
    ),
    Setting(
        "builder_seconds",
        "TIDEWAITER_BUILDER_SECONDS",
        "3600",
        "How long the build of a Dockerfile may take, and how long another one of this home waits for it.",
    ),
    Setting(
        "cache_from",
        "TIDEWAITER_CACHE_FROM",
        "",
        "Repository HOST/REPO of a registry from which Dockerfile builds take finished steps; name one that only "
        "trusted builds can write to.",
    ),
    Setting(
        "cache_to",
        "TIDEWAITER_CACHE_TO",
        "",
        "Repository HOST/REPO of a registry to which Dockerfile builds send finished steps.",
    ),
    Setting(
        "runner",
        "TIDEWAITER_RUNNER",
        "auto",
        "What `exec` runs images with: `bwrap`, `podman` or `docker`; `auto` takes the first of them that works here.",
    ),
    Setting(
        "cache_bytes",
        "TIDEWAITER_CACHE_BYTES",
        "20GB",
        "Bound that `cache prune` keeps: downloads, unpacked bases and layers that no image needs. A size as 20GB, "
        "512MiB or a number of bytes.",
    ),
    Setting(
        "prune",
        "TIDEWAITER_PRUNE",
        "yes",
        "`yes`: `build` and `ci` prune the cache when it outgrew `cache_bytes`. `no`: only `cache prune` does.",
    ),
    Setting(
        "shared_layers",
        "TIDEWAITER_SHARED_LAYERS",
        "",
        "Repository, as HOST/REPO, where `push` shares the layers that this home made, and where `build` looks for "
        "layers before it fetches wheels. Empty: none.",
    ),
    Setting(
        "trusted_builders",
        "TIDEWAITER_TRUSTED_BUILDERS",
        "",
        "Public key files, separated by commas, of builders whose shared layers are used. The keys of this home count "
        "too.",
    ),
    Setting(
        "signature_formats",
        "TIDEWAITER_SIGNATURE_FORMATS",
        "tag,bundle",
        "Formats of cosign in which signatures and attestations are written, separated by commas: `tag` (the tags "
        "`.sig` and `.att`), `bundle` (Sigstore bundles that refer to the image). Each is complete by itself.",
    ),
    Setting(
        "pipeline_run",
        "TIDEWAITER_PIPELINE_RUN",
        FROM_CI,
        "Address of the run of CI that a build is a part of, as provenance names it.",
    ),
    Setting(
        "identity",
        "TIDEWAITER_IDENTITY",
        "",
        "Who you are, where `waiver` records a person and `--as` does not say it. Declared, not proven.",
    ),
    Setting(
        "waiver_days",
        "TIDEWAITER_WAIVER_DAYS",
        "180",
        "How many days after its request a waiver for production may end at most.",
    ),
    Setting(
        "audit_days",
        "TIDEWAITER_AUDIT_DAYS",
        "0",
        "How many days entries of the audit log stay in the catalog; `audit export` then drops what is older and in "
        "its folder, all but the hashes. 0: for good.",
    ),
    Setting(
        "audit_witnesses",
        "TIDEWAITER_AUDIT_WITNESSES",
        "",
        "Public keys, as NAME+ID+KEY, of the witnesses that must sign the audit log's checkpoints; between commas.",
    ),
    Setting(
        "audit_witness_days",
        "TIDEWAITER_AUDIT_WITNESS_DAYS",
        "7",
        "How many days ago each of them may have signed last; after that `audit verify` says no.",
    ),
    Setting(
        "policy",
        "TIDEWAITER_POLICY",
        "",
        "Policy packs (folders or bundles), separated by commas, that lie on top of the one that ships, the lowest "
        "first: the company's, then the team's. Each may tighten what is below it, never loosen.",
    ),
    Setting(
        "policy_keys",
        "TIDEWAITER_POLICY_KEYS",
        "",
        "Files with public keys (PEM) or a shared secret, separated by commas. One of them must have signed each "
        "bundle in `policy` (`policy bundle --key`, `opa sign`); what is not signed, and every folder, is then "
        "refused.",
    ),
    Setting(
        "policy_engine",
        "TIDEWAITER_POLICY_ENGINE",
        "embedded",
        "What evaluates rules: `embedded`, the engine that ships, or `opa`, an Open Policy Agent of this machine.",
    ),
    Setting(
        "opa",
        "TIDEWAITER_OPA",
        "opa",
        "The Open Policy Agent (1.0 or later) that `policy_engine` `opa` starts: a path, or a name on PATH.",
    ),
    Setting(
        "server",
        "TIDEWAITER_SERVER",
        "",
        "Address of the tidewaiter server that commands speak to, as https://HOST[:PORT][/PATH]; without TLS only on "
        "this machine and on hosts of `plain_http`. Empty: they work on the home.",
    ),
    Setting(
        "token_file",
        "TIDEWAITER_TOKEN_FILE",
        "",
        "File that holds the API token for the server, readable by its owner alone; `TIDEWAITER_TOKEN` comes before "
        "it.",
    ),
    Setting(
        "server_key",
        "TIDEWAITER_SERVER_KEY",
        "",
        "Public key files, separated by commas, of the server's verdict key: `check` and `ci` through the server then "
        "believe no yes that none of them signed. Empty: not verified, which is said.",
    ),
    Setting(
        "default_environment",
        "TIDEWAITER_DEFAULT_ENVIRONMENT",
        STRICTEST,
        "Environment of repositories and namespaces that no `[[environment]]` table names; without tables and this "
        "setting, every project says its own.",
    ),
    Setting(
        "public_url",
        "TIDEWAITER_PUBLIC_URL",
        "",
        "Address of the server as browsers see it, when a proxy speaks TLS for it: https://HOST[:PORT]. Cookies are "
        "then for TLS only.",
    ),
    Setting(
        "trusted_proxies",
        "TIDEWAITER_TRUSTED_PROXIES",
        "",
        "Addresses or networks, separated by commas, of proxies whose `X-Forwarded-For` the server believes.",
    ),
    Setting(
        "requests_per_second",
        "TIDEWAITER_REQUESTS_PER_SECOND",
        "100",
        "How many requests a second the server answers for one identity, or for one address without one; "
        "its registry (`/v2/`) answers 50 times as many; 0: no bound.",
    ),
    Setting(
        "token_days",
        "TIDEWAITER_TOKEN_DAYS",
        "365",
        "How many days an API token may last at most.",
    ),
    Setting(
        "oidc_issuer",
        "TIDEWAITER_OIDC_ISSUER",
        "",
        "OIDC provider with which people log in to the server. Empty: with passwords only.",
    ),
    Setting(
        "oidc_client_id",
        "TIDEWAITER_OIDC_CLIENT_ID",
        "",
        "What the provider calls this server. Its redirect address is PUBLIC_URL/login/oidc/back.",
    ),
    Setting(
        "oidc_client_secret_file",
        "TIDEWAITER_OIDC_CLIENT_SECRET_FILE",
        "",
        "File with the secret that the provider gave for it; the variable `TIDEWAITER_OIDC_CLIENT_SECRET` comes before "
        "it. Without either, PKCE alone.",
    ),
    Setting(
        "oidc_scopes",
        "TIDEWAITER_OIDC_SCOPES",
        "openid profile email",
        "Scopes that are asked for; some providers say groups only for the scope `groups`.",
    ),
    Setting(
        "oidc_name_claim",
        "TIDEWAITER_OIDC_NAME_CLAIM",
        "preferred_username",
        "Claim that names a user who logs in for the first time.",
    ),
    Setting(
        "oidc_groups_claim",
        "TIDEWAITER_OIDC_GROUPS_CLAIM",
        "groups",
        "Claim that lists a user's groups, to which `[[oidc_group]]` tables give roles.",
    ),
    Setting(
        "registries",
        "TIDEWAITER_REGISTRIES",
        "",
        "Places in registries, as HOST[:PORT][/PATH] separated by commas, that a server reads for those who ask its "
        "API to check an image or to take in a repository. Empty: none.",
    ),
    Setting(
        "static_fail_on",
        "TIDEWAITER_STATIC_FAIL_ON",
        "",
        "What stops every build in the analysis of its sources, whatever the project's `[static] fail_on` says: kinds, "
        "severities or KIND:SEVERITY, separated by commas.",
    ),
    Setting(
        "private_names",
        "TIDEWAITER_PRIVATE_NAMES",
        "",
        "Names of packages, or patterns as `company-*`, separated by commas, that must never come from the public "
        "index; those of `[[python.indexes]]` are private without it.",
    ),
    Setting(
        "private_names_asked",
        "TIDEWAITER_PRIVATE_NAMES_ASKED",
        "yes",
        "`yes`: `analyse` asks the public index whether it has a package of a private name. `no`: that index does not "
        "learn the names, and nobody knows.",
    ),
    Setting(
        "gate_upstream",
        "TIDEWAITER_GATE_UPSTREAM",
        "",
        "The registry behind the server's own, as HOST[:PORT][/PATH]: what is allowed is handed over to it before it "
        "shows. The login is that of `docker login HOST`. Empty: none.",
    ),
    Setting(
        "webhook_hosts",
        "TIDEWAITER_WEBHOOK_HOSTS",
        "",
        "Hosts, as HOST[:PORT] or *.DOMAIN separated by commas, that webhooks may be sent to although their addresses "
        "are private, without TLS, or through the proxy. Others: by https to public addresses only.",
    ),
    Setting(
        "mail_server",
        "TIDEWAITER_MAIL_SERVER",
        "",
        "Server that notices are sent by mail through: smtps://HOST[:PORT] with TLS from the start, smtp://HOST[:PORT] "
        "with STARTTLS, smtp+plain://HOST[:PORT] for one without TLS. Empty: no mail.",
    ),
    Setting("mail_from", "TIDEWAITER_MAIL_FROM", "", "Address that they come from."),
    Setting("mail_user", "TIDEWAITER_MAIL_USER", "", "As whom to log in there; empty for a server that asks nobody."),
    Setting("mail_password_file", "TIDEWAITER_MAIL_PASSWORD_FILE", "", "File with that user's password."),
    Setting(
        "local_sources",
        "TIDEWAITER_LOCAL_SOURCES",
        "",
        "Folders, separated by commas, below which runs may fetch Git repositories by path (`file://…`). Empty: none.",
    ),
    Setting(
        "submodule_hosts",
        "TIDEWAITER_SUBMODULE_HOSTS",
        "",
        "Hosts, as HOST[:PORT] separated by commas, that submodules may come from, beside the host of the repository "
        "that names them and the repositories of `[[source]]`.",
    ),
    Setting(
        "pipeline_concurrency",
        "TIDEWAITER_PIPELINE_CONCURRENCY",
        "2",
        "How many runs of pipelines a worker carries out at the same time.",
    ),
    Setting(
        "pipeline_limit",
        "TIDEWAITER_PIPELINE_LIMIT",
        "0",
        "How many runs all workers carry out at the same time; 0: as many as they can.",
    ),
    Setting(
        "pipeline_team_limit",
        "TIDEWAITER_PIPELINE_TEAM_LIMIT",
        "0",
        "… and of each team that no `[[team]]` table names; 0: as many as there is room for.",
    ),
    Setting(
        "pipeline_step_seconds",
        "TIDEWAITER_PIPELINE_STEP_SECONDS",
        "3600",
        "How long a step of a run may take; then it is ended, and the run has failed.",
    ),
    Setting(
        "pipeline_poison",
        "TIDEWAITER_PIPELINE_POISON",
        "3",
        "How often the process of a run may die in the same step; then the run is poisoned, and nobody takes it up.",
    ),
    Setting(
        "pipeline_days",
        "TIDEWAITER_PIPELINE_DAYS",
        "90",
        "How many days runs are kept after their end, with their logs; 0: for good.",
    ),
    Setting(
        "pipeline_key",
        "TIDEWAITER_PIPELINE_KEY",
        "tidewaiter",
        "What signs images that a run built: name of a key of the home, or what `ci --key` takes. Its password is "
        "`COSIGN_PASSWORD` of the worker.",
    ),
    Setting(
        "pipeline_in_server",
        "TIDEWAITER_PIPELINE_IN_SERVER",
        "auto",
        "Whether `serve` carries out runs itself: `yes`, `no`, or `auto`: when the catalog is a file, which has one "
        "worker only.",
    ),
    Setting(
        "origin",
        "TIDEWAITER_ORIGIN",
        "tidewaiter.local",
        "Name under which policies are identified in verdicts.",
    ),
    Setting(
        "log_format",
        "TIDEWAITER_LOG_FORMAT",
        "text",
        "How `serve` logs to standard error: `text` says only what goes wrong, `json` writes one object a line, also "
        "for each request.",
    ),
)

"""What each command does when the setting `server` names a server. Every command stands in one of the lists."""

THROUGH = frozenset(
    {
        *("affected", "audit list", "audit prove", "catalog list", "catalog show", "check", "ci"),
        *("model list", "model record", "owner list", "owner record", "report lead-times", "trace", "verdicts"),
        *("token create", "token list", "token revoke", "user add", "user disable", "user enable", "user grant"),
        *("user list", "user password", "user revoke"),
        *("pipeline cancel", "pipeline list", "pipeline log", "pipeline retry", "pipeline run", "pipeline show"),
        *("waiver approve", "waiver list", "waiver request", "waiver revoke", "waiver show"),
        *("webhook add", "webhook deliveries", "webhook enable", "webhook list"),
        *("webhook redeliver", "webhook remove", "webhook rotate", "webhook test"),
        *("whoami", "workload list", "workload record"),
    }
)
"""Asks the server."""

HERE = frozenset(
    {
        *("analyse", "rebuild"),
        *("advise", "advisories import", "advisories status", "advisories update", "attest", "base build"),
        "base rebase",
        *(
            "base update",
            "build",
            "cache prune",
            "cache status",
            "contents",
            "copy",
            "diff",
            "doctor",
            "exec",
            "export",
        ),
        *("init", "inspect", "key generate", "key import", "key list", "key revoke", "key rotate", "lint", "lock"),
        *("policy bundle", "policy test", "pull", "push", "sbom", "scan", "serve", "sign", "verify", "worker"),
    }
)
"""Works on files, images, keys and advisory data of this machine, with a server or without."""

NOT_THROUGH = frozenset(
    {
        *("audit accept", "audit checkpoint", "audit cosign", "audit export", "audit verify"),
        *("backup create", "backup restore", "base approve", "base list", "base retire", "catalog sync"),
        *("environment list", "environment of", "notice list", "notice test", "policy explain"),
    }
)
"""Is about what the server keeps, and cannot ask it: refused, so that it does not silently work on another home."""

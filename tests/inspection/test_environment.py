"""What an image's config says, without the secrets in it."""

import time

from tidewaiter.inspection.environment import masked, masked_labels, masked_text, masked_words

_TOKEN = "ghp_" + "A1b2C3d4E5" * 3 + "abcdef"


def test_a_secret_under_a_harmless_name_is_masked() -> None:
    """Tokens of a known form, passwords in connection texts and addresses are found in any variable."""
    assert masked(
        [f"PLAIN={_TOKEN}", "DB_PWD=a", "CONN=Server=x;Password=b", "AT=amqp://u:p@ss@h/x", "PWD=/srv", "AUTHOR=me"]
    ) == {
        "PLAIN": "****",
        "DB_PWD": "****",
        "CONN": "Server=x;Password=****",
        "AT": "amqp://****@h/x",
        "PWD": "/srv",
        "AUTHOR": "me",
    }


def test_secrets_in_labels_are_masked() -> None:
    """Labels are judged as variables are."""
    assert masked_labels({"secret_key": "a", "x": _TOKEN, "maintainer": "me"}) == {
        "secret_key": "****",
        "x": "****",
        "maintainer": "me",
    }


def test_secrets_in_the_words_of_a_command_are_masked() -> None:
    """Options that name a secret hide what follows them, by an equals sign or as the next word."""
    words = ["serve", "--token=a", "--password", "b", "--api-key", "--port", "80", _TOKEN]
    assert masked_words(words) == ("serve", "--token=****", "--password", "****", "--api-key", "--port", "80", "****")


def test_secrets_in_the_history_are_masked() -> None:
    """Build arguments, quoted values, options and addresses in a command of the history are masked, the rest stays."""
    said = "|2 API_TOKEN=a B_SECRET='c d' /bin/sh -c curl  --password e https://u:p@h/x --port 80"
    assert (
        masked_text(said)
        == "|2 API_TOKEN=**** B_SECRET=**** /bin/sh -c curl  --password **** https://****@h/x --port 80"
    )
    assert masked_text("/bin/sh -c printf '-----BEGIN PRIVATE KEY-----\\nMIIE'") == "****"


def test_a_hostile_text_is_masked_in_time_that_grows_with_its_length_only() -> None:
    """Texts that make patterns start over at every character are passed over once."""
    started = time.process_time()
    for part in ("a.", "a=", "://", 'a=" ', "--token ", "x://a@", "-----BEGIN A "):
        text = part * (100_000 // len(part))
        masked([f"A={text}"])
        masked_text(text)
    assert time.process_time() - started < 30

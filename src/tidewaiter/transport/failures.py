"""Why an exchange with a server came to nothing. `answers.failed` makes of it what a user reads."""


class ExchangeError(Exception):
    """No whole answer arrived; the text says why."""


class ConnectionLostError(ExchangeError):
    """The connection was refused, cut, or ended too early."""


class TimedOutError(ExchangeError):
    """The other side is silent or stalls."""


class ConnectTimedOutError(TimedOutError):
    """No connection came about in time."""


class BadAnswerError(ExchangeError):
    """What arrived is not HTTP/1.1 as RFC 9112 has it, or goes beyond our bounds."""


class ProxyRefusedError(ExchangeError):
    """The proxy opens no tunnel."""


class UnsendableError(ExchangeError):
    """The request cannot be written down: a header breaks its line, or the body has another length than announced."""

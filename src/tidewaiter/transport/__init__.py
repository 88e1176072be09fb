"""HTTP out of the house: one client with time-outs, bounds, retries and redaction. Nothing else opens connections."""

"""Telling others what happened: webhooks, signed and sent until they are taken."""

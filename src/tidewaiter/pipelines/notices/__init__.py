"""Telling people what happened, in words: in the rooms of chat services, by mail, to a web address of their own."""
